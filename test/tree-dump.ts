/** A tree as text, read through the calls that clients use: what a snapshot must go on saying whatever happens to the live tree. */
import type { Extent, InodeAttributes } from '../protocol/entities.js';
import { isHiddenName } from '../protocol/hidden.js';
import type { RigClient } from './coordinator-rig.js';

export interface DumpedInode {
  readonly attributes: Partial<InodeAttributes>;
  readonly extents?: readonly Extent[];
  readonly xattrs?: Readonly<Record<string, string>>;
}

/**
 * Path to what is there.
 * @param links also tell which names are one file, by the path met first
 */
export async function dumpTree(client: RigClient, root: number): Promise<Record<string, DumpedInode & { readonly sameAs?: string }>> {
  const found: Record<string, DumpedInode & { sameAs?: string }> = {};
  const first = new Map<number, string>();
  const walk = async (inode: number, path: string): Promise<void> => {
    for (const name of await client.names(inode)) {
      if (isHiddenName(name)) continue;
      const { attributes } = await client.call('lookup', { parent: inode, name });
      if (!attributes) throw new Error(`${path}/${name} is listed and not there`);
      const { inode: child, volume: _volume, ctimeS: _s, ctimeNs: _ns, change: _change, dataVersion: _version, ...rest } = attributes;
      const at = `${path}/${name}`;
      const sameAs = attributes.kind === 'directory' ? undefined : first.get(child);
      if (sameAs === undefined) first.set(child, at);
      const xattrs: Record<string, string> = {};
      for (const xattr of (await client.call('listXattrs', { inode: child })).names)
        xattrs[xattr] = (await client.call('getXattr', { inode: child, name: xattr })).value.toString();
      found[at] = {
        attributes: rest,
        ...(sameAs === undefined ? {} : { sameAs }),
        ...(attributes.kind === 'file' ? { extents: await extentsOf(client, child) } : {}),
        ...(Object.keys(xattrs).length > 0 ? { xattrs } : {}),
      };
      if (attributes.kind === 'directory') await walk(child, at);
    }
  };
  await walk(root, '');
  return found;
}

async function extentsOf(client: RigClient, inode: number): Promise<Extent[]> {
  const extents: Extent[] = [];
  for (let fromOffset: number | null = 0; fromOffset !== null; ) {
    const page: { extents: readonly Extent[]; nextOffset: number | null } = await client.call('getExtents', {
      inode,
      fromOffset,
      limit: 3,
    });
    for (const extent of page.extents) if (extents.at(-1)?.offset !== extent.offset) extents.push(extent);
    fromOffset = page.nextOffset;
  }
  return extents;
}
