// How this tier starts Chromium.
import { chromium } from 'playwright-core';

const { SPKI: spki, CHROMIUM: executablePath } = process.env;

export function launch(...more) {
  return chromium.launch({
    executablePath,
    // Nothing of the browser's own on the network; the sandbox needs rights that a container of a build has not.
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', `--ignore-certificate-errors-spki-list=${spki}`, ...more,
    ],
  });
}
