// SPDX-License-Identifier: GPL-2.0-or-later
// Finds mounts in /proc/self/mountinfo (proc(5)). Reading that file never touches the mounted file system, which may
// be dead or served by the very process that asks.

export interface MountEntry {
  /** `major:minor` of st_dev. */
  readonly device: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
  /** Who mounted a FUSE file system; 0 of others. */
  readonly userId: number;
}

/** Octal escapes of space, tab, newline and backslash; the rest are bytes as they are. */
function withoutEscapes(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

export function parseMountinfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    // A variable number of optional fields ends with a lone dash.
    const dash = fields.indexOf('-', 6);
    if (dash < 0 || fields.length < dash + 3) continue;
    entries.push({
      device: fields[2]!,
      mountPoint: withoutEscapes(fields[4]!),
      type: fields[dash + 1]!,
      source: withoutEscapes(fields[dash + 2]!),
      userId: Number(/(?:^|,)user_id=(\d+)/.exec(fields[dash + 3] ?? '')?.[1] ?? 0),
    });
  }
  return entries;
}

/** The mount that one sees at `directory`: the last one made there. */
export function findMount(entries: readonly MountEntry[], directory: string): MountEntry | undefined {
  return entries.findLast((entry) => entry.mountPoint === directory);
}
