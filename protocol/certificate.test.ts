import { execFileSync } from 'node:child_process';
import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { issueCertificate, newAuthority } from './certificate.js';

const NOW_MS = Date.UTC(2026, 5, 1);
const authority = newAuthority('Holdfast test', NOW_MS, randomBytes(16));
const issue = (name: string, hosts: string[]) => issueCertificate(authority, name, hosts, NOW_MS, randomBytes(16));
const hasOpenssl = (() => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

describe('certificates of a cluster', () => {
  it('are signed by its authority, which may sign nothing but end certificates', () => {
    const ca = new X509Certificate(authority.cert);
    expect(ca.ca).toBe(true);
    expect(ca.verify(ca.publicKey)).toBe(true);
    const { cert, key } = issue('n1', ['shelf1']);
    const peer = new X509Certificate(cert);
    expect(peer.ca).toBe(false);
    expect(peer.checkIssued(ca)).toBe(true);
    expect(peer.verify(ca.publicKey)).toBe(true);
    expect(peer.checkPrivateKey(createPrivateKey(key))).toBe(true);
    const other = new X509Certificate(newAuthority('Holdfast test', NOW_MS, randomBytes(16)).cert);
    expect(peer.verify(other.publicKey)).toBe(false);
  });

  it('hold for the names and addresses they were made for, and no other', () => {
    const peer = new X509Certificate(issue('n1', ['shelf1.example', '10.1.2.3', 'fd00::12', '::1']).cert);
    expect(peer.subject).toBe('CN=n1');
    expect(peer.checkHost('shelf1.example')).toBe('shelf1.example');
    expect(peer.checkHost('shelf2.example')).toBeUndefined();
    for (const address of ['10.1.2.3', 'fd00::12', '::1']) expect(peer.checkIP(address)).toBe(address);
    expect(peer.checkIP('10.1.2.4')).toBeUndefined();
  });

  it('are good from an hour ago on, for years, also beyond 2049', () => {
    const peer = new X509Certificate(issue('n1', []).cert);
    expect(Date.parse(peer.validFrom)).toBe(NOW_MS - 3_600_000);
    expect(Date.parse(peer.validTo)).toBe(NOW_MS + 825 * 86_400_000);
    const late = new X509Certificate(newAuthority('late', Date.UTC(2045, 0, 1), randomBytes(16)).cert);
    expect(new Date(late.validTo).getUTCFullYear()).toBe(2054);
  });

  it.skipIf(!hasOpenssl)('are what OpenSSL calls valid, for servers and for clients (skipped without openssl)', () => {
    const directory = mkdtempSync(join(tmpdir(), 'hf-cert-'));
    try {
      const now = Date.now();
      const fresh = newAuthority('Holdfast fresh', now, randomBytes(16));
      writeFileSync(join(directory, 'ca.pem'), fresh.cert);
      const both = issueCertificate(fresh, 'n1', ['shelf1'], now, randomBytes(16));
      const client = issueCertificate(fresh, 'anna', [], now, randomBytes(16));
      writeFileSync(join(directory, 'both.pem'), both.cert);
      writeFileSync(join(directory, 'client.pem'), client.cert);
      const verify = (file: string, purpose: string): string =>
        execFileSync('openssl', ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', 'ca.pem', file], {
          cwd: directory,
          stdio: ['ignore', 'pipe', 'pipe'],
        }).toString();
      expect(verify('both.pem', 'sslserver')).toContain('both.pem: OK');
      expect(verify('both.pem', 'sslclient')).toContain('both.pem: OK');
      expect(verify('client.pem', 'sslclient')).toContain('client.pem: OK');
      expect(() => verify('client.pem', 'sslserver')).toThrow();
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
