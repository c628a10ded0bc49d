/** What every command gets: its output, and connections that are opened when first needed and closed at the end. */

import { join } from 'node:path';
import { DEFAULT_VOLUME_NAME } from '../../protocol/entities.js';
import type { PeerTls, TlsFiles } from '../../protocol/tls.js';
import type { AdminConnection } from '../admin.js';
import type { Cluster, ConnectOptions, Unlock } from '../api.js';
import { peerTls } from '../own-certificate.js';
import { toClusterPath } from './cluster-path.js';
import { findUnlock, LOCAL_KEY_FILE, type SecretOptions } from './secrets.js';
import { findTarget, type Target, type TargetOptions, tlsFiles } from './target.js';
import { type Painter, painter } from './words.js';

export interface CommonOptions extends TargetOptions, SecretOptions, TlsFiles {
  readonly volume?: string;
  readonly json?: boolean;
  /** Milliseconds to wait for the coordinator. */
  readonly timeout?: number;
  readonly quiet?: boolean;
}

export class Context {
  private foundTarget: Target | undefined;
  private readonly closers: (() => void | Promise<void>)[] = [];
  readonly isJson: boolean;
  readonly paint: Painter;
  /** Aborted by the first Ctrl-C or SIGTERM. The shell takes a new one for each line. */
  interrupted = new AbortController();
  /** What to say to somebody who ended the command half-way. */
  whenInterrupted: string | undefined;

  constructor(readonly options: CommonOptions) {
    this.isJson = options.json === true;
    this.paint = painter(wantsColour(process.stdout.isTTY === true && !this.isJson));
  }

  get target(): Target {
    this.foundTarget ??= findTarget(this.options);
    return this.foundTarget;
  }
  /** The coordinator's address if it is known, without looking further: for messages. */
  get url(): string | undefined {
    return this.foundTarget?.url;
  }
  get waitMs(): number {
    return this.options.timeout ?? 5000;
  }

  async admin(): Promise<AdminConnection> {
    const { connectAdmin } = await import('../admin.js');
    const { url, token } = this.target;
    const tls = await this.tls();
    const connection = await connectAdmin({
      coordinatorUrl: url,
      token,
      description: `holdfast command pid ${process.pid}`,
      waitMs: this.waitMs,
      tls,
      ...(this.options.volume === undefined ? {} : { volume: this.options.volume }),
    });
    this.closers.push(() => connection.close());
    return connection;
  }

  /** Certificates for an https coordinator. @throws {HoldfastError} EINVAL */
  private tls(): Promise<PeerTls> {
    return peerTls(this.target.url, this.target.token, tlsFiles(this.options, process.env));
  }

  /** What opens an encrypted volume, if something was given. @throws {CliError} */
  unlock(volume = this.options.volume ?? DEFAULT_VOLUME_NAME): Unlock | undefined {
    const { state, tokenFile } = this.target;
    // Other users have homes of their own, which this key does not open.
    const isOwner = state !== undefined && tokenFile === join(state, 'tokens', 'admin-token');
    return findUnlock(this.options, process.env, isOwner && volume === DEFAULT_VOLUME_NAME ? join(state, LOCAL_KEY_FILE) : undefined);
  }

  /** @param needs `names`: no file content, so that an encrypted volume may stay shut */
  async cluster(needs: 'content' | 'names' = 'content', more: Pick<ConnectOptions, 'deduplicateFromBytes'> = {}): Promise<Cluster> {
    const { connect } = await import('../index.js');
    const { url, token } = this.target;
    const tls = await this.tls();
    const unlock = needs === 'names' ? undefined : this.unlock();
    const cluster = await connect({
      coordinatorUrl: url,
      token,
      description: `holdfast command pid ${process.pid}`,
      outageTimeoutMs: this.options.timeout ?? 30_000,
      tls,
      ...more,
      ...(unlock ? { unlock } : {}),
      ...(needs === 'names' ? { namesOnly: true } : {}),
      ...(this.options.volume === undefined ? {} : { volume: this.options.volume }),
    });
    this.closers.push(() => cluster.close());
    return cluster;
  }

  /** `volume` as admin calls take it. */
  get volume(): { volume?: string } {
    return this.options.volume === undefined ? {} : { volume: this.options.volume };
  }

  path(text: string): string {
    return toClusterPath(text);
  }

  /** Data: one line on stdout. */
  print(text: string): void {
    process.stdout.write(`${text}\n`);
  }
  /** Data for programs: one object on one line. */
  json(value: unknown): void {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  }
  /** Everything that is not data: stderr. */
  note(text: string): void {
    if (!this.options.quiet) process.stderr.write(`${text}\n`);
  }

  async close(): Promise<void> {
    for (const close of this.closers.reverse()) await close();
  }
}

function wantsColour(isTerminal: boolean): boolean {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  if (NO_COLOR !== undefined && NO_COLOR !== '') return false;
  if (FORCE_COLOR !== undefined && FORCE_COLOR !== '0') return true;
  return isTerminal && TERM !== 'dumb';
}
