/** Command line of `holdfast tui`. */
import { parseArgs } from 'node:util';
import type { TlsFiles } from '../protocol/tls.js';

export interface TuiOptions extends TlsFiles {
  readonly state?: string;
  readonly coordinator?: string;
  readonly tokenFile?: string;
  readonly readOnly: boolean;
  readonly ascii: boolean;
  readonly noColor: boolean;
  readonly help: boolean;
}

export const USAGE = `usage: holdfast tui [--state DIR | --coordinator URL --token-file FILE] [options]

Shows a cluster as it changes: nodes, files with their chunk maps, events, jobs; and changes it. ? inside lists the keys.

  --state DIR         state directory of a local cluster (scripts/up); lets start, stop and kill its processes
  --coordinator URL   address of a coordinator
  --token-file FILE   file with your token
  --tls-ca FILE --tls-cert FILE --tls-key FILE
                      the cluster's certificate authority, your certificate and its key, for an https coordinator
  --read-only         look, change nothing
  --ascii             no line-drawing characters (chosen by itself when the locale is not UTF-8)
  --no-color          no colours (NO_COLOR in the environment does the same)

For screen readers and for pipes: holdfast status --watch tells the same in lines.
`;

/** @throws {TypeError} for an unknown option or a missing value */
export function parseOptions(argv: readonly string[]): TuiOptions {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    allowPositionals: false,
    options: {
      state: { type: 'string' },
      coordinator: { type: 'string' },
      'token-file': { type: 'string' },
      'tls-ca': { type: 'string' },
      'tls-cert': { type: 'string' },
      'tls-key': { type: 'string' },
      'read-only': { type: 'boolean', default: false },
      ascii: { type: 'boolean', default: false },
      'no-color': { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  return {
    ...(values.state === undefined ? {} : { state: values.state }),
    ...(values.coordinator === undefined ? {} : { coordinator: values.coordinator }),
    ...(values['token-file'] === undefined ? {} : { tokenFile: values['token-file'] }),
    ...(values['tls-ca'] === undefined ? {} : { tlsCa: values['tls-ca'] }),
    ...(values['tls-cert'] === undefined ? {} : { tlsCert: values['tls-cert'] }),
    ...(values['tls-key'] === undefined ? {} : { tlsKey: values['tls-key'] }),
    readOnly: values['read-only'],
    ascii: values.ascii,
    noColor: values['no-color'],
    help: values.help,
  };
}
