import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Which folders a folder may import; everything else of ours is out of its reach. */
const mayImport: Record<string, readonly string[]> = {
  protocol: [],
  coordinator: ['protocol'],
  node: ['protocol'],
  client: ['protocol'],
  mount: ['client', 'protocol'],
  tui: ['client', 'protocol'],
};
/** The one binary: its subcommands load the other parts when they are asked for, never before. */
const mayLoadLazily: Record<string, readonly string[]> = {
  'client/cli': ['coordinator', 'node', 'mount', 'tui'],
};
const ourFolders = [...Object.keys(mayImport), 'scripts', 'test'];

interface Import {
  specifier: string;
  lazy: boolean;
}

/** Every module a source names: import, export from, import type, `import()` and `require()`. */
function importsOf(fileName: string, text: string): Import[] {
  const found: Import[] = [];
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier) {
      found.push({ specifier: (node.moduleSpecifier as ts.StringLiteral).text, lazy: false });
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      // A type alone loads nothing; it is how a lazily loaded part is described.
      found.push({ specifier: (node.argument.literal as ts.StringLiteral).text, lazy: true });
    } else if (ts.isCallExpression(node)) {
      const [argument] = node.arguments;
      const dynamic = node.expression.kind === ts.SyntaxKind.ImportKeyword;
      const required = ts.isIdentifier(node.expression) && node.expression.text === 'require';
      if (argument && ts.isStringLiteralLike(argument) && (dynamic || required)) {
        found.push({ specifier: argument.text, lazy: dynamic });
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(fileName, text, ts.ScriptTarget.Latest, true));
  return found;
}

/** The imports of one file that its folder may not have, each as a sentence. `file` is relative to the root. */
function offences(file: string, text: string): string[] {
  const folder = file.split('/')[0] ?? '';
  const allowed = mayImport[folder];
  if (!allowed) return [];
  const isTest = /\.test\.tsx?$/.test(file);
  const lazily = Object.entries(mayLoadLazily).flatMap(([prefix, parts]) => (file.startsWith(`${prefix}/`) ? parts : []));
  const wrong: string[] = [];
  for (const { specifier, lazy } of importsOf(file, text)) {
    if (!specifier.startsWith('.')) continue;
    const target = relative(root, resolve(root, dirname(file), specifier)).split(sep)[0] ?? '';
    if (target === folder || allowed.includes(target)) continue;
    if (lazy && lazily.includes(target)) continue;
    if (isTest && target === 'test') continue;
    wrong.push(`${file} imports ${specifier}: ${folder} may import ${allowed.join(' and ') || 'nothing of ours'}`);
  }
  return wrong;
}

function sourceFiles(folder: string): string[] {
  const directory = join(root, folder);
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.tsx?$/.test(name) && !name.split(sep).includes('node_modules'))
    .map((name) => join(folder, name).split(sep).join('/'));
}

describe('imports', () => {
  it.each(Object.keys(mayImport))('flow as drawn in %s', (folder) => {
    const files = sourceFiles(folder);
    const wrong = files.flatMap((file) => offences(file, readFileSync(join(root, file), 'utf8')));
    expect(wrong).toEqual([]);
  });

  it('are read in every form they can take', () => {
    const text = `
      import a from "../node/a.js"; export * from "../node/b.js"; import type { C } from "../node/c.js";
      type D = import("../node/d.js").D; const e = await import("../node/e.js"); const f = require("../node/f.js");`;
    expect(importsOf('coordinator/x.ts', text).map((one) => one.specifier)).toEqual(
      ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => `../node/${name}.js`),
    );
    expect(offences('coordinator/x.ts', text)).toHaveLength(6);
  });

  it('of another part are let through only where the command line loads it lazily', () => {
    const lazy = `const { main } = await import("../../mount/main.js");`;
    expect(offences('client/cli/commands.ts', lazy)).toEqual([]);
    expect(offences('client/session.ts', lazy.replace('../../', '../'))).toHaveLength(1);
    expect(offences('client/cli/commands.ts', `import { main } from "../../mount/main.js";`)).toHaveLength(1);
    expect(offences('node/store.ts', `import { connect } from "../client/index.js";`)).toHaveLength(1);
    expect(offences('mount/main.ts', `import { connect } from "../client/index.js";`)).toEqual([]);
  });

  it('know every top-level folder that holds sources', () => {
    const folders = readdirSync(root, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
      .map((entry) => entry.name)
      .filter((name) => !['node_modules', 'dist', 'coverage', 'docs'].includes(name) && sourceFiles(name).length > 0);
    expect(folders.filter((name) => !ourFolders.includes(name))).toEqual([]);
  });
});

/** The messages each file of the contract defines: keys of its call tables, members of its `...Pushes` interfaces. */
async function definedMessages(): Promise<Map<string, string>> {
  const messages = new Map<string, string>();
  for (const file of sourceFiles('protocol').filter((name) => name.endsWith('-calls.ts'))) {
    const exported = (await import(join(root, file))) as Record<string, unknown>;
    for (const value of Object.values(exported)) {
      if (!isCallTable(value)) continue;
      for (const name of Object.keys(value)) messages.set(name, file);
    }
    const source = ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest, true);
    for (const statement of source.statements) {
      if (!ts.isInterfaceDeclaration(statement) || !statement.name.text.endsWith('Pushes')) continue;
      for (const member of statement.members) if (member.name) messages.set(member.name.getText(source), file);
    }
  }
  return messages;
}

function isCallTable(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return false;
  const definitions = Object.values(value);
  return (
    definitions.length > 0 && definitions.every((one) => typeof one === 'object' && one !== null && 'request' in one && 'changes' in one)
  );
}

interface TableRow {
  heading: string;
  cells: string[];
}

/** The body rows of every table in a Markdown text, each with the first cell of its table's heading. */
function tableRows(markdown: string): TableRow[] {
  const rows: TableRow[] = [];
  let heading: string | undefined;
  for (const line of markdown.split('\n')) {
    if (!line.trimStart().startsWith('|')) {
      heading = undefined;
      continue;
    }
    const cells = line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
    if (heading === undefined) heading = cells[0] ?? '';
    else if (!cells.every((cell) => /^:?-+:?$/.test(cell))) rows.push({ heading, cells });
  }
  return rows;
}

const codeNames = (text: string): string[] => [...text.matchAll(/`([A-Za-z]+)`/g)].map((match) => match[1] ?? '');

describe('the message table in protocol/README.md', () => {
  const rows = (): TableRow[] => tableRows(readFileSync(join(root, 'protocol/README.md'), 'utf8'));

  it('names every message of the contract', async () => {
    const messages = await definedMessages();
    expect(messages.size).toBeGreaterThan(20);
    const named = new Set(rows().flatMap((row) => row.cells.flatMap(codeNames)));
    const absent = [...messages].filter(([name]) => !named.has(name)).map(([name, file]) => `${name} (${file})`);
    expect(absent).toEqual([]);
  });

  it('names no message that is gone', async () => {
    const messages = await definedMessages();
    const messageRows = rows().filter((row) => /^(message|call|push)/i.test(row.heading));
    expect(messageRows.length).toBeGreaterThan(0);
    const gone = messageRows.flatMap((row) => codeNames(row.cells[0] ?? '')).filter((name) => !messages.has(name));
    expect(gone).toEqual([]);
  });
});
