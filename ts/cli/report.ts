// SPDX-License-Identifier: GPL-2.0-or-later
// Shows counters: one JSON object for programs, aligned lines for people. Names carry their units (`cache.dataBytes`),
// so a line is the path of a value and the value.

/** `a.b.c   12` for every number, string and boolean in `value`, in the order of the object. */
export function counterLines(value: object): string[] {
  const rows: [string, string][] = [];
  const collect = (prefix: string, part: unknown): void => {
    if (typeof part === 'object' && part !== null) {
      for (const [name, inner] of Object.entries(part)) {
        collect(prefix === '' ? name : `${prefix}.${name}`, inner);
      }
    } else {
      rows.push([prefix, String(part)]);
    }
  };
  collect('', value);
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `${name.padEnd(width)}  ${text}`);
}

/** What `stats` and `info` print. */
export function report(value: object, json: boolean): string {
  return json ? `${JSON.stringify(value)}\n` : `${counterLines(value).join('\n')}\n`;
}
