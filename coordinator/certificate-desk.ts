/**
 * Gives certificates of the cluster to who shows a token (protocol/enrolment.ts). Holds the key of the authority. A join token is good for one key:
 * asked again for that one (a reply was lost) the desk answers again, for another one it does not. A certificate lets nobody in by itself: tokens go
 * on saying who may do what.
 */
import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { CERTIFICATE_DAYS, certifyKey, type KeyAndCertificate } from '../protocol/certificate.js';
import { checkedKey, type EnrolmentRequest, enrolmentRequest, fingerprintOf, hostOf } from '../protocol/enrolment.js';
import { wallMs } from '../protocol/environment.js';
import { HoldfastError, isCode } from '../protocol/errors.js';
import { checked } from './checked.js';
import type { Coordinator } from './coordinator.js';
import { type NodeDoor, NodeDoors } from './node-doors.js';

/** People's programs ask again by themselves when theirs nears its end. */
const CLIENT_DAYS = 90;
const SERIAL_BYTES = 16;

export class CertificateDesk {
  readonly fingerprint: string;
  private readonly authorityKey: KeyObject;

  /** @param ownCert the coordinator's certificate: its names are given to nobody else. @throws {HoldfastError} EINVAL when key and certificate do not fit */
  constructor(
    private readonly authority: KeyAndCertificate,
    private readonly ownCert: string,
    isKeyOf: (cert: X509Certificate) => boolean,
  ) {
    const cert = new X509Certificate(authority.cert);
    if (!isKeyOf(cert)) throw new HoldfastError('EINVAL', '--tls-ca-key is not the key of --tls-ca');
    this.authorityKey = cert.publicKey;
    this.fingerprint = fingerprintOf(authority.cert);
  }

  get cert(): string {
    return this.authority.cert;
  }

  /**
   * Whether a connection shows a certificate of ours. That it was let in says nothing here, and neither does `authorized` alone: a TLS session
   * that began without a certificate counts as authorized when it is resumed.
   */
  isMember(request: IncomingMessage): boolean {
    const socket = request.socket as TLSSocket;
    if (!socket.authorized) return false;
    const peer = socket.getPeerX509Certificate();
    return peer?.verify(this.authorityKey) === true;
  }

  /** @throws {HoldfastError} UNAUTHORIZED, REFUSED, EINVAL, BAD_MESSAGE */
  async issue(coordinator: Coordinator, body: unknown): Promise<{ cert: string }> {
    const request = checked(enrolmentRequest, body, 'certificate request');
    const key = checkedKey(request);
    const { environment, state } = coordinator;
    const doors = new NodeDoors(environment, state, coordinator.nodeToken);
    const subject = request.role === 'node' ? this.forNode(coordinator, doors, request) : this.forUser(coordinator, request);
    // Before the certificate leaves: who comes second with the token must find it used.
    await coordinator.journal.synced();
    const { commonName, days } = subject;
    const hosts = request.role === 'node' ? request.hosts : [];
    coordinator.keeper.note({
      level: 'info',
      kind: 'certificate.issued',
      text: `certificate for ${request.role === 'node' ? 'node' : 'user'} ${commonName}${hosts.length > 0 ? ` (${hosts.join(', ')})` : ''}, by ${subject.by}`,
      ...(request.role === 'client' ? { user: commonName } : {}),
    });
    const random = environment.randomBytes(SERIAL_BYTES);
    return { cert: certifyKey(this.authority, key, { commonName, hosts, days }, wallMs(environment), random) };
  }

  private forNode(coordinator: Coordinator, doors: NodeDoors, request: EnrolmentRequest) {
    const { state } = coordinator;
    const door = doors.authenticate(request.token);
    const { name, hosts, publicKey } = request;
    if (hosts.length === 0) throw new HoldfastError('EINVAL', 'a node serves under a name or address: say which');
    const isOwn = (node: number): boolean => door.kind === 'node' && door.node === node;
    const others = [...state.table('nodes').all()].filter(([node, row]) => !row.isRemoved && !isOwn(node)).map(([, row]) => row);
    if (door.kind !== 'cluster' && others.some((row) => row.name === name))
      throw new HoldfastError('REFUSED', `there is a node ${name} already: choose another --name`);
    const allowed = door.kind === 'join' ? doors.hostsOf(door.id) : undefined;
    const own = new X509Certificate(this.ownCert);
    const taken = (host: string): boolean =>
      own.checkHost(host) !== undefined || own.checkIP(host) !== undefined || others.some((row) => hostOf(row.url) === host);
    for (const host of hosts) {
      const isGiven = allowed === undefined ? !taken(host) : allowed.includes(host);
      if (!isGiven)
        throw new HoldfastError(
          'REFUSED',
          `no certificate for ${host}: ${allowed ? `this join token is for ${allowed.join(', ')}` : 'another machine of the cluster is reached by it'}; "holdfast node join-token --host ${host}" makes one that allows it`,
        );
    }
    const sha256 = createHash('sha256').update(publicKey).digest('hex');
    if (door.kind === 'join') state.transact((tx) => doors.bindKey(tx, door.id, sha256));
    return { commonName: name, days: CERTIFICATE_DAYS, by: byWhat(door) };
  }

  private forUser({ users }: Coordinator, { token }: EnrolmentRequest) {
    const user = users.authenticate(token);
    return { commonName: user.user, days: CLIENT_DAYS, by: user.token === undefined ? 'the admin token' : `token ${user.token}` };
  }
}

const byWhat = (door: NodeDoor): string =>
  door.kind === 'join' ? `join token ${door.id}` : door.kind === 'node' ? 'its own token' : 'the node token';

/** HTTP status of a refusal. */
export const statusOf = (error: unknown): number =>
  isCode(error, 'UNAUTHORIZED') ? 401 : isCode(error, 'REFUSED') ? 403 : error instanceof HoldfastError ? 400 : 500;
