// SPDX-License-Identifier: GPL-2.0-or-later
//
// Loads the addon that `npm run build:native` left in this folder. The only way into it.
//
// What it exports is declared in binding.d.ts, which the build generates.

import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

function load() {
  const failures = [];
  for (const libc of ['gnu', 'musl']) {
    const file = `./crfs.linux-${process.arch}-${libc}.node`;
    try {
      return require(file);
    } catch (error) {
      failures.push(`${file}: ${error.message}`);
    }
  }
  throw new Error(`cannot load the native addon (build it with "npm run build"):\n${failures.join('\n')}`);
}

export const native = load();
