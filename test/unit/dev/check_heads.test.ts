// SPDX-License-Identifier: GPL-2.0-or-later
// The rule for the head of a source file.

import { expect, test } from 'vitest';
import { headFault } from '../../../ts/dev/check_heads.ts';

const SPDX = 'SPDX-License-Identifier: GPL-2.0-or-later';

test.each([
  `// ${SPDX}\n// Does a thing.\n`,
  `// ${SPDX}\n//\n// Does a thing.\n`,
  `// ${SPDX}\n\n//! Does a thing.\n`,
  `#!/bin/sh\n# ${SPDX}\n# Does a thing.\n`,
])('a good head: %j', (text) => {
  expect(headFault(text)).toBeUndefined();
});

test.each([
  ['// Does a thing.\n', 'no SPDX line at the top'],
  [`// ${SPDX}\n`, 'no comment that says what the file is for'],
  [`// ${SPDX}\nfn main() {}\n`, 'no comment that says what the file is for'],
])('a bad head: %j', (text, fault) => {
  expect(headFault(text)).toBe(fault);
});
