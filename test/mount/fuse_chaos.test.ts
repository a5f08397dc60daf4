// SPDX-License-Identifier: GPL-2.0-or-later
// A real tree goes in, is compared and goes away while everything is taken back from the kernel all the time and
// operations miss at random: nothing may be wrong, and nothing may hang.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Prng } from '../../ts/util/prng.ts';
import { delay, FuseMount } from '../fixtures/fuse_mount.ts';

const PROGRAM_MS = 90_000;
const EVERY_HASH = 0x1_0000_0000;

let mount: FuseMount;

beforeEach(async () => {
  mount = await FuseMount.create();
});

afterEach(async () => {
  mount.fs.missWhen = null;
  await mount.destroy();
});

/** Takes random things back until `running` resolves. @returns how often. */
async function takeBack(random: Prng, running: Promise<unknown>): Promise<number> {
  let ended = false;
  let rounds = 0;
  void running.then(() => {
    ended = true;
  });
  while (!ended) {
    const nodes = [...mount.fs.nodes.values()];
    for (let count = 0; count < 20; count++) {
      const node = nodes[random.below(nodes.length)]!;
      if (node.isDirectory) mount.server.kernel.forgetNames(node.id, 0, EVERY_HASH);
      const first = random.below(4) * 4096;
      mount.server.kernel.forgetBytes(
        node.id,
        first,
        random.oneIn(2) ? first + 8192 : Number.POSITIVE_INFINITY,
      );
      mount.server.kernel.forgetAttributes(node.id, node.id + random.below(50));
    }
    const settled = mount.server.kernel.settled();
    const late = await Promise.race([settled, delay(5000).then(() => 'late')]);
    expect(late, 'an invalidation hangs').toBeUndefined();
    rounds++;
    await delay(random.below(10));
  }
  return rounds;
}

describe('a mount under revokes and misses', () => {
  it('holds a tree that is packed in, compared, walked and removed by several programs', async () => {
    const random = new Prng(2024);
    mount.fs.missWhen = () => random.oneIn(20);
    mount.fs.onMiss = async () => {
      if (random.oneIn(4)) await delay(random.below(5));
      return 0;
    };
    const script = (name: string): string => `
      mkdir ${name} && cp -a /usr/include/linux ${name}/ && diff -r /usr/include/linux ${name}/linux &&
      (cd ${name} && tar cf - linux | tar tf - | wc -l) && ls -lR ${name} > /dev/null &&
      mv ${name}/linux ${name}/moved && find ${name} -type f -name '*.h' | wc -l && rm -r ${name}`;
    const programs = ['a', 'b', 'c'].map((name) => mount.shell(script(name), PROGRAM_MS));
    const rounds = await takeBack(random, Promise.all(programs));
    const outcomes = await Promise.all(programs);
    const local = await mount.shell(
      "tar cf - -C /usr/include linux | tar tf - | wc -l; find /usr/include/linux -type f -name '*.h' | wc -l",
    );
    for (const outcome of outcomes) expect(outcome).toEqual({ code: 0, stdout: local.stdout, stderr: '' });
    expect(rounds).toBeGreaterThan(20);
    expect(mount.server.counters()).toMatchObject({ parked: 0, parkedBytes: 0 });
    expect(mount.driver.counters()).toMatchObject({ malformed: 0, refused: 0 });
  });

  it('keeps a database right', async () => {
    const random = new Prng(7);
    mount.fs.missWhen = () => random.oneIn(10);
    const program = mount.shell(
      `python3 - <<'PY'
import sqlite3
db = sqlite3.connect('db')
db.execute('create table t (a integer primary key, b text)')
for i in range(300):
    with db:
        db.execute('insert into t values (?, ?)', (i, 'x' * (i * 7)))
db.close()
db = sqlite3.connect('db')
assert db.execute('select count(*), sum(length(b)) from t').fetchone() == (300, 7 * 299 * 150)
assert db.execute('pragma integrity_check').fetchone() == ('ok',)
PY`,
      PROGRAM_MS,
    );
    await takeBack(random, program);
    expect(await program).toEqual({ code: 0, stdout: '', stderr: '' });
  });
});
