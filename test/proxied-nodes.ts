/** Nodes with a proxy before their chunk port and another one between them and the coordinator, for clusters whose network is to be hurt. */
import type { LocalCluster } from '../scripts/cluster.js';
import { findFreePort } from '../scripts/cluster-state.js';
import { TcpProxy } from './tcp-proxy.js';

export class ProxiedNodes {
  private readonly ports = new Map<string, TcpProxy>();
  private readonly links = new Map<string, TcpProxy>();
  constructor(readonly names: readonly string[]) {}

  /** Adds the nodes to a cluster that has none yet. */
  async addTo(cluster: LocalCluster): Promise<void> {
    // Chosen for the coordinator, although nobody listens there yet.
    const taken = [Number(new URL(cluster.url).port)];
    for (const name of this.names) {
      const port = await findFreePort('127.0.0.1', taken);
      taken.push(port);
      const chunks = await TcpProxy.start(`http://127.0.0.1:${port}`);
      const link = await TcpProxy.start(cluster.url);
      this.ports.set(name, chunks);
      this.links.set(name, link);
      await cluster.addNode(name, { port, args: ['--reserve', '1M', '--url', chunks.url, '--coordinator', link.url] });
    }
  }
  /** Before the node's chunk port: clients and other nodes go through it. */
  port(name: string): TcpProxy {
    return this.ports.get(name) as TcpProxy;
  }
  /** Between the node and the coordinator. */
  link(name: string): TcpProxy {
    return this.links.get(name) as TcpProxy;
  }
  private all(): TcpProxy[] {
    return [...this.ports.values(), ...this.links.values()];
  }
  /** The network is as it should be again. */
  heal(): void {
    for (const proxy of this.all()) Object.assign(proxy, { isSwallowing: false, isDeaf: false, delayMs: 0, bytesPerS: 0 });
  }
  async stop(): Promise<void> {
    for (const proxy of this.all()) await proxy.stop();
  }
}
