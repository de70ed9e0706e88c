// Turns the sources of the pages into files for the executable:  node build.mjs DIRECTORY
//
// The files go to DIRECTORY, each with a hash of its content in its name, and index.txt has a line `NAME FILE` for each.
import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';

const [directory] = process.argv.slice(2);
if (!directory) {
  console.error('usage: node build.mjs DIRECTORY');
  process.exit(64);
}
const root = import.meta.dirname ?? new URL('.', import.meta.url).pathname;
await rm(directory, { recursive: true, force: true });
await mkdir(directory, { recursive: true });

/** What the executable calls a file, by the entry point that it is made from. */
const NAMES = {
  'src/terminal-page.ts': 'TERMINAL_SCRIPT',
  'src/starting-page.ts': 'STARTING_SCRIPT',
  'src/page.css': 'PAGE_STYLE',
  'src/terminal.css': 'TERMINAL_STYLE',
};

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: Object.keys(NAMES),
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['es2022'],
  outdir: directory,
  entryNames: '[name]-[hash]',
  assetNames: '[name]-[hash]',
  publicPath: '/assets/',
  loader: { '.woff2': 'file' },
  legalComments: 'eof',
  metafile: true,
  logLevel: 'warning',
});

const index = [];
const named = new Set();
for (const [file, { entryPoint }] of Object.entries(metafile.outputs)) {
  if (!entryPoint) continue;
  index.push(`${NAMES[entryPoint]} ${basename(file)}`);
  named.add(basename(file));
}

/** Copies a file, with the hash of its content in its name. */
async function copy(name, source) {
  const content = await readFile(source);
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 8).toUpperCase();
  const extension = extname(source) || '.txt';
  const file = `${basename(source, extension)}-${hash}${extension}`;
  await writeFile(join(directory, file), content);
  index.push(`${name} ${file}`);
  named.add(file);
}
await copy('FAVICON', join(root, 'static/favicon.svg'));
await copy('MANIFEST', join(root, 'static/devplane.webmanifest'));
await copy('FONT_LICENSE', join(root, 'static/jetbrains-mono-OFL.txt'));
await copy('SYMBOLS_NOTICE', join(root, 'static/nerd-fonts-notice.txt'));

// The fonts, which the styles name by themselves.
for (const file of await readdir(directory)) {
  if (!named.has(file)) index.push(`- ${file}`);
}
await writeFile(join(directory, 'index.txt'), index.sort().join('\n') + '\n');
