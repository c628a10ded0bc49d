/**
 * TLS between coordinator, nodes and clients. One certificate authority per cluster (`holdfast cluster init`): who has a certificate of it belongs
 * to the cluster, and everybody checks everybody: whoever connects checks the name in the server's certificate, and a server that was given the
 * authority takes nobody without a certificate of it. Tokens and permits still say who may do what.
 */
import { readFile } from 'node:fs/promises';
import { HoldfastError } from './errors.js';

/** PEM texts. */
export interface PeerTls {
  /** The cluster's certificate authority: what is trusted, in place of the authorities of the web. */
  readonly ca?: string;
  /** Our own certificate and its key: both or none. */
  readonly cert?: string;
  readonly key?: string;
}
/** As command lines have them. */
export interface TlsFiles {
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}

/** Reads what was named. @throws {HoldfastError} EINVAL, when a file cannot be read or one of a pair is missing */
export async function readTls({ tlsCa, tlsCert, tlsKey }: TlsFiles): Promise<PeerTls> {
  if ((tlsKey === undefined) !== (tlsCert === undefined))
    throw new HoldfastError('EINVAL', '--tls-key and --tls-cert belong together: give both');
  const read = async (flag: string, file: string): Promise<string> => {
    try {
      return await readFile(file, 'utf8');
    } catch (error) {
      throw new HoldfastError('EINVAL', `${flag} ${file} cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'unknown reason'}`);
    }
  };
  return {
    ...(tlsCa === undefined ? {} : { ca: await read('--tls-ca', tlsCa) }),
    ...(tlsCert === undefined ? {} : { cert: await read('--tls-cert', tlsCert) }),
    ...(tlsKey === undefined ? {} : { key: await read('--tls-key', tlsKey) }),
  };
}

/**
 * For https.createServer; undefined when there is no certificate to serve with.
 * @param takesNewcomers peers without a certificate are let in, and must be told apart by what they ask for
 */
export function serverTls(tls: PeerTls | undefined, takesNewcomers = false): Record<string, unknown> | undefined {
  if (!tls?.key || !tls.cert) return undefined;
  const peers = tls.ca === undefined ? {} : { ca: tls.ca, requestCert: true, rejectUnauthorized: !takesNewcomers };
  return { key: tls.key, cert: tls.cert, minVersion: 'TLSv1.3', ...peers };
}

/** For whoever connects. */
export const clientTls = (tls: PeerTls | undefined): { ca?: string; cert?: string; key?: string } => ({ ...tls });

/** What trouble with certificates means, in words; other reasons as they are. */
export function tlsReason(reason: string): string {
  if (/certificate required|alert number 116/i.test(reason))
    return 'it takes only peers with a certificate of its cluster: give --tls-cert and --tls-key';
  if (/self.signed certificate|unable to (verify|get)|unknown ca|alert number 48/i.test(reason))
    return `certificates do not fit: one side's is not of the authority that the other trusts (--tls-ca): ${reason}`;
  if (/wrong version number/i.test(reason)) return 'it does not speak TLS: its address begins with http://, not https://';
  return reason;
}
