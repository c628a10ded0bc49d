import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { describeEncryption, newEncryption, newKeyFile, openVolumeKey, rewrap } from './volume-key.js';

const cheap = { n: 16, r: 1, p: 1 };
const keyFile = newKeyFile(randomBytes);
const passphrase = 'correct horse battery staple';
const refused = { code: 'EACCES' };

describe('the key of a volume', () => {
  it('opens with the key file it was made for, also when an editor added a line end, and with no other', async () => {
    const settings = await newEncryption({ keyFile }, randomBytes);
    const key = await openVolumeKey(settings, { keyFile }, 'main');
    expect(key.length).toBe(32);
    expect(await openVolumeKey(settings, { keyFile: Buffer.concat([keyFile, Buffer.from('\r\n')]) }, 'main')).toEqual(key);
    await expect(openVolumeKey(settings, { keyFile: newKeyFile(randomBytes) }, 'main')).rejects.toMatchObject(refused);
    await expect(openVolumeKey(settings, { passphrase }, 'main')).rejects.toMatchObject(refused);
  });

  it('opens with its passphrase and no other', async () => {
    const settings = await newEncryption({ passphrase }, randomBytes, cheap);
    expect((await openVolumeKey(settings, { passphrase }, 'main')).length).toBe(32);
    await expect(openVolumeKey(settings, { passphrase: `${passphrase}!` }, 'main')).rejects.toMatchObject(refused);
    await expect(openVolumeKey(settings, { keyFile }, 'main')).rejects.toMatchObject(refused);
  });

  it('costs an attacker 128 MiB a guess unless told otherwise', async () => {
    const settings = await newEncryption({ passphrase }, randomBytes);
    expect(settings.wrappings[0]).toMatchObject({ kind: 'passphrase', scrypt: { n: 131072, r: 8, p: 1 } });
    expect((await openVolumeKey(settings, { passphrase }, 'main')).length).toBe(32);
  });

  it('stays the same when its wrapping is changed: the old secret opens no more, or still does when it is to be kept', async () => {
    const settings = await newEncryption({ keyFile }, randomBytes);
    const key = await openVolumeKey(settings, { keyFile }, 'main');
    const changed = await rewrap(settings, { keyFile }, { passphrase }, false, 'main', randomBytes, cheap);
    expect(await openVolumeKey(changed, { passphrase }, 'main')).toEqual(key);
    await expect(openVolumeKey(changed, { keyFile }, 'main')).rejects.toMatchObject(refused);
    const both = await rewrap(settings, { keyFile }, { passphrase }, true, 'main', randomBytes, cheap);
    expect(await openVolumeKey(both, { passphrase }, 'main')).toEqual(key);
    expect(await openVolumeKey(both, { keyFile }, 'main')).toEqual(key);
    expect([changed, both, null].map(describeEncryption)).toEqual(['passphrase', 'key file, passphrase', 'none']);
    await expect(rewrap(settings, { passphrase }, { keyFile }, false, 'main', randomBytes)).rejects.toMatchObject(refused);
  });

  it('appears nowhere in the settings', async () => {
    const settings = await newEncryption({ keyFile }, randomBytes);
    const key = await openVolumeKey(settings, { keyFile }, 'main');
    const text = JSON.stringify(settings);
    for (const secret of [key.toString('hex'), key.toString('base64'), keyFile.toString().trim()]) expect(text).not.toContain(secret);
  });

  it('is refused with settings that were changed, of another version, or ask for too much memory', async () => {
    const settings = await newEncryption({ passphrase }, randomBytes, cheap);
    const [wrapping] = settings.wrappings;
    if (wrapping?.kind !== 'passphrase') throw new Error('not a passphrase');
    const sealed = Buffer.from(wrapping.sealed, 'base64');
    sealed.writeUInt8(sealed.readUInt8(20) ^ 1, 20);
    const damaged = { ...settings, wrappings: [{ ...wrapping, sealed: sealed.toString('base64') }] };
    await expect(openVolumeKey(damaged, { passphrase }, 'main')).rejects.toMatchObject(refused);
    await expect(openVolumeKey({ ...settings, format: 'x' }, { passphrase }, 'main')).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    const greedy = { ...settings, wrappings: [{ ...wrapping, scrypt: { n: 2 ** 20, r: 32, p: 1 } }] };
    await expect(openVolumeKey(greedy, { passphrase }, 'main')).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
  });

  it('is not wrapped for a secret that can be guessed', async () => {
    await expect(newEncryption({ passphrase: 'short' }, randomBytes)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(newEncryption({ keyFile: Buffer.from('too short\n') }, randomBytes)).rejects.toMatchObject({ code: 'EINVAL' });
  });
});
