/** cluster init, cluster issue: the cluster's certificate authority and what it issues, as files in one directory. Nothing here talks to a cluster. */
import { randomBytes, X509Certificate } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { issueCertificate, type KeyAndCertificate, newAuthority } from '../../../protocol/certificate.js';
import type { Context } from '../context.js';
import { CliError, EXIT } from '../exit-codes.js';

const CA_CERT = 'ca.pem';
const CA_KEY = 'ca-key.pem';

const certFile = (directory: string, name: string): string => join(directory, `${name}.pem`);
const keyFile = (directory: string, name: string): string => join(directory, `${name}-key.pem`);

/** `cluster init --tls DIR` */
export function init(context: Context, { tls: directory }: { tls: string }): void {
  if (existsSync(join(directory, CA_KEY)) || existsSync(join(directory, CA_CERT)))
    throw new CliError(
      `${directory} holds a certificate authority already: "holdfast cluster issue NAME --tls ${directory}" uses it`,
      EXIT.conflict,
      'EEXIST',
    );
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const name = `Holdfast cluster ${randomBytes(4).toString('hex')}`;
  save(newAuthority(name, Date.now(), randomBytes(16)), join(directory, CA_KEY), join(directory, CA_CERT));
  if (context.isJson) {
    context.json({ schema: 1, authority: name, cert: join(directory, CA_CERT), key: join(directory, CA_KEY) });
    return;
  }
  context.print(`${name}: its certificate authority is in ${directory}. Whoever has ${CA_KEY} can join the cluster: it stays here.`);
  context.print(
    `Next, for the coordinator:  holdfast cluster issue NAME --host HOST --tls ${directory}; started with --tls-ca-key it gives the others theirs.`,
  );
}

/** `cluster issue NAME --tls DIR` */
export function issue(context: Context, { tls: directory, host: hosts = [] }: { tls: string; host?: string[] }, name: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name) || ['ca', 'ca-key'].includes(name))
    throw new CliError(`${name} is no name for a certificate: use letters, digits, ".", "_" and "-"`, EXIT.usage);
  const strange = hosts.find((host) => !/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$|^[0-9a-fA-F:]+$/.test(host));
  if (strange !== undefined) throw new CliError(`${strange} is not the name or address of a machine`, EXIT.usage);
  const authority = readAuthority(directory);
  const [key, cert] = [keyFile(directory, name), certFile(directory, name)];
  save(issueCertificate(authority, name, hosts, Date.now(), randomBytes(16)), key, cert);
  const { validTo } = new X509Certificate(readFileSync(cert));
  if (context.isJson) {
    context.json({ schema: 1, name, hosts, cert, key, ca: join(directory, CA_CERT), validTo });
    return;
  }
  const use = hosts.length > 0 ? `serves as ${hosts.join(', ')} and connects` : 'connects, and serves nothing';
  context.print(`${name} ${use}, until ${validTo}. Its machine gets these three files (the key readable for its owner alone):`);
  context.print(`  --tls-ca ${join(directory, CA_CERT)} --tls-cert ${cert} --tls-key ${key}`);
}

function readAuthority(directory: string): KeyAndCertificate {
  try {
    return { key: readFileSync(join(directory, CA_KEY), 'utf8'), cert: readFileSync(join(directory, CA_CERT), 'utf8') };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT')
      throw new CliError(
        `there is no certificate authority in ${directory}: make one with "holdfast cluster init --tls ${directory}"`,
        EXIT.notFound,
        'NO_AUTHORITY',
      );
    throw new CliError(`cannot read the certificate authority in ${directory}: ${message}`, EXIT.denied, 'NO_AUTHORITY');
  }
}

/** The key first: a certificate without its key is worth nothing. Neither is written over another file. */
function save({ key, cert }: KeyAndCertificate, toKey: string, toCert: string): void {
  const write = (file: string, text: string, mode: number): void => {
    let fd: number;
    try {
      fd = openSync(file, 'wx', mode);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') throw new CliError(`${file} exists already: move it away, or choose another name`, EXIT.conflict, 'EEXIST');
      throw new CliError(`cannot write ${file}: ${message}`);
    }
    try {
      writeSync(fd, text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  };
  write(toKey, key, 0o600);
  write(toCert, cert, 0o644);
}
