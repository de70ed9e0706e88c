// Bundles the tests, which are TypeScript, and runs them:  node test.mjs
import { build } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const directory = await mkdtemp(join(tmpdir(), 'devplane-web-'));
const tests = (await readdir('test')).filter((name) => name.endsWith('.test.ts')).map((name) => join('test', name));
await build({ entryPoints: tests, bundle: true, platform: 'node', format: 'esm', outExtension: { '.js': '.mjs' }, outdir: directory });
const bundles = (await readdir(directory)).map((name) => join(directory, name));
const { status } = spawnSync(process.execPath, ['--test', ...bundles], { stdio: 'inherit' });
await rm(directory, { recursive: true, force: true });
process.exit(status ?? 1);
