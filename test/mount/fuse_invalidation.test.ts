// SPDX-License-Identifier: GPL-2.0-or-later
// What the kernel holds is taken back when a grant goes; and taking back never waits for a request that waits.
//
// Each test changes the file system in memory behind the kernel's back ("remotely"), as another client would, and lets
// the kernel cache forget, as the client does when it gives ranges back.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { delay, FuseMount, until } from '../fixtures/fuse_mount.ts';

let mount: FuseMount;

beforeEach(async () => {
  mount = await FuseMount.create();
});

afterEach(async () => {
  mount.fs.missWhen = null;
  await mount.destroy();
});

const EVERY_HASH = 0x1_0000_0000;

async function run(script: string): Promise<string> {
  const { code, stdout, stderr } = await mount.shell(`set -e; ${script}`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
}

/** Lets every miss wait until the returned function is called. */
function holdMisses(): () => void {
  let release = (): void => {};
  const released = new Promise<number>((resolve) => {
    release = () => resolve(0);
  });
  mount.fs.onMiss = () => released;
  return () => {
    mount.fs.missWhen = null;
    release();
  };
}

/** Fails unless `promise` settles within a second: an invalidation that waits for a request would never. */
async function soon(promise: Promise<void>): Promise<void> {
  const late = Symbol();
  const first = await Promise.race([promise, delay(1000).then(() => late)]);
  expect(first, 'the kernel did not finish in time').not.toBe(late);
}

describe('taking back', () => {
  it('shows new contents and attributes, and nothing before', async () => {
    await run('echo old contents > f; cat f > /dev/null; stat f > /dev/null');
    mount.fs.remoteWrite('f', 'new\n');
    expect(await run('cat f')).toBe('old contents\n');
    const node = mount.fs.find('f').id;
    mount.server.kernel.forgetAttributes(node, node + 1);
    mount.server.kernel.forgetBytes(node, 0, Number.POSITIVE_INFINITY);
    await mount.server.kernel.settled();
    expect(await run('cat f; stat -c %s f')).toBe('new\n4\n');
  });

  it('drops pages of the named bytes only', async () => {
    await run('head -c 16384 /dev/zero > f; cat f > /dev/null');
    const file = mount.fs.find('f');
    file.data.fill(0x41, 0, file.size);
    mount.server.kernel.forgetBytes(file.id, 4096, 8192);
    await mount.server.kernel.settled();
    expect(await run('tr -d "\\0" < f | wc -c')).toBe('4096\n');
  });

  it('shows a name that was not found before, and no longer one that is gone', async () => {
    await run('mkdir d; touch d/gone d/kept; [ ! -e d/new ]; ls d > /dev/null');
    mount.fs.remoteCreate('d', 'new', 'x');
    mount.fs.remoteUnlink('d', 'gone');
    await run('[ ! -e d/new ]; [ -e d/gone ]');
    const dir = mount.fs.find('d').id;
    mount.server.kernel.forgetNames(dir, 0, EVERY_HASH);
    mount.server.kernel.dropName(dir, Buffer.from('gone'));
    mount.server.kernel.forgetBytes(dir, 0, Number.POSITIVE_INFINITY);
    mount.server.kernel.forgetAttributes(dir, dir + 1);
    await mount.server.kernel.settled();
    expect(await run('[ -e d/new ]; [ ! -e d/gone ]; ls d')).toBe('kept\nnew\n');
  });

  it('keeps a directory that only loses its grant, for getcwd', async () => {
    await run('mkdir -p a/b');
    await delay(4100); // Names given in the last seconds are dropped instead.
    const program = mount.startShell('cd a/b; echo ready >&2; sleep 1; pwd -P');
    await until(() => mount.server.counters().names > 0, 'the names are given');
    await delay(300);
    mount.server.kernel.forgetNames(1, 0, EVERY_HASH);
    mount.server.kernel.forgetNames(mount.fs.find('a').id, 0, EVERY_HASH);
    await mount.server.kernel.settled();
    expect((await program.outcome).stdout).toBe(`${mount.directory}/a/b\n`);
  });

  it('writes back what was dirtied through mmap first', async () => {
    await run('head -c 8192 /dev/zero > f');
    const program = mount.startShell(`python3 - <<'PY'
import mmap, time
with open('f', 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0)
    m[100:105] = b'dirty'
    print('ready', flush=True)
    time.sleep(1)
PY`);
    await new Promise((resolve) => program.child.stdout?.once('data', resolve));
    const file = mount.fs.find('f');
    mount.server.kernel.forgetBytes(file.id, 0, Number.POSITIVE_INFINITY);
    await mount.server.kernel.settled();
    expect(Buffer.from(file.data.subarray(100, 105)).toString()).toBe('dirty');
    await program.outcome;
  });

  it('reaches inodes that were looked up a moment ago', async () => {
    await run('mkdir d; touch d/$(seq -s " d/" 400); sync; echo 2 > /proc/sys/vm/drop_caches');
    const program = mount.startShell(
      'for i in 1 2 3 4 5; do ls -l d > /dev/null; stat d/* > /dev/null; done',
    );
    const dir = mount.fs.find('d');
    const nodes = [...dir.children.values()].map((child) => child.node);
    for (let round = 1; round <= 10; round++) {
      await delay(20);
      for (const node of nodes) node.mode = 0o100000 | round;
      for (const node of nodes) mount.server.kernel.forgetAttributes(node.id, node.id + 1);
      await mount.server.kernel.settled();
    }
    await program.outcome;
    const modes = await run("stat -c %a d/* | sort | uniq -c | tr -s ' '");
    expect(modes).toBe(' 400 12\n');
  });
});

describe('while requests wait', () => {
  it('a name is taken back behind a CREATE of another name in its directory', async () => {
    await run('mkdir d; touch d/known');
    const release = holdMisses();
    mount.fs.missWhen = (operation) => operation === 'create';
    const program = mount.startShell('echo x > d/created');
    await until(() => mount.server.counters().parked === 1, 'the CREATE waits');
    const dir = mount.fs.find('d').id;
    mount.server.kernel.forgetNames(dir, 0, EVERY_HASH);
    await soon(mount.server.kernel.settled());
    // Answered ESTALE, the kernel lets go of the directory and asks again; a second time it is left to wait.
    expect(mount.server.counters().staled).toBe(1);
    await until(() => mount.server.counters().parked === 1, 'the CREATE waits again');
    mount.server.kernel.forgetNames(dir, 0, EVERY_HASH);
    await soon(mount.server.kernel.settled());
    expect(mount.server.counters()).toMatchObject({ staled: 1, parked: 1 });
    mount.fs.remoteUnlink('d', 'known');
    const seen = mount.shell('stat known-elsewhere; stat d > /dev/null && echo answered');
    expect((await seen).stdout).toBe('answered\n');
    release();
    expect((await program.outcome).code).toBe(0);
    expect(await run('ls d')).toBe('created\n');
  });

  it('pages are taken back beside those of a parked READ', async () => {
    await run('head -c 1000000 /dev/zero > f; sync; echo 1 > /proc/sys/vm/drop_caches');
    await run('dd if=f bs=4096 count=1 status=none > /dev/null');
    const release = holdMisses();
    mount.fs.missWhen = (operation) => operation === 'read';
    const program = mount.startShell('dd if=f bs=4096 skip=200 count=1 status=none | wc -c');
    await until(() => mount.server.counters().parked > 0, 'the READ waits');
    const file = mount.fs.find('f');
    mount.server.kernel.forgetBytes(file.id, 0, Number.POSITIVE_INFINITY);
    await soon(mount.server.kernel.settled());
    // The answering thread is free: other files are served.
    expect((await mount.shell('echo y > other; stat -c %s other')).stdout).toBe('2\n');
    release();
    expect((await program.outcome).stdout).toBe('4096\n');
  });

  it('attributes are taken back while their GETATTR waits, and the late answer counts', async () => {
    await run('echo x > f');
    const node = mount.fs.find('f').id;
    const release = holdMisses();
    mount.fs.missWhen = (operation, id) => operation === 'getattr' && id === node;
    mount.server.kernel.forgetAttributes(node, node + 1);
    await mount.server.kernel.settled();
    const program = mount.startShell('stat -c %s f');
    await until(() => mount.server.counters().parked === 1, 'the GETATTR waits');
    mount.server.kernel.forgetAttributes(node, node + 1);
    await soon(mount.server.kernel.settled());
    mount.fs.remoteWrite('f', 'longer than before');
    release();
    expect((await program.outcome).stdout).toBe('18\n');
  });

  it('a signal ends the wait with EINTR, and the channel goes on', async () => {
    await run('mkdir d');
    const release = holdMisses();
    mount.fs.missWhen = (operation, id) => operation === 'lookup' && id !== 1;
    const program = mount.startShell('exec stat d/x');
    await until(() => mount.server.counters().parked === 1, 'the LOOKUP waits');
    program.child.kill('SIGKILL');
    expect((await program.outcome).code).toBeNull();
    expect(mount.server.counters().parked).toBe(0);
    release();
    expect(await run('ls d')).toBe('');
  });

  it('misses are answered when what they lack has come, or with its error', async () => {
    await run('echo text > f; sync; echo 3 > /proc/sys/vm/drop_caches');
    let fetches = 0;
    let tries = 0;
    // Every operation is run three times.
    mount.fs.missWhen = () => ++tries % 3 !== 0;
    mount.fs.onMiss = async () => {
      fetches++;
      await delay(1);
      return 0;
    };
    expect(await run('cat f; stat -c %s f; mv f g; rm g')).toBe('text\n5\n');
    expect(fetches).toBeGreaterThan(5);
    mount.fs.missWhen = (operation) => operation === 'create';
    mount.fs.onMiss = () => Promise.resolve(-28);
    const { stderr } = await mount.shell('echo x > h');
    expect(stderr).toContain('No space left');
  });

  it('an abort ends every wait', async () => {
    await run('mkdir d');
    holdMisses();
    mount.fs.missWhen = (operation, id) => operation === 'lookup' && id !== 1;
    const program = mount.startShell('cd /; stat d/x; stat $OLDPWD/d/x');
    await until(() => mount.server.counters().parked === 1, 'the LOOKUP waits');
    mount.driver.abort();
    await until(() => program.child.exitCode !== null, 'the program ends');
    expect(await mount.closed).toBeNull();
    // The mount point of an aborted connection stays; a second unmount finds nothing, which is fine.
    await mount.shell(`cd /; umount -l ${mount.directory}`);
  });
});

describe('very many names', () => {
  it('are taken back by a new epoch, and thousands one by one', async () => {
    await run('mkdir d e; cd d; touch $(seq 6000)');
    const dir = mount.fs.find('d').id;
    mount.server.kernel.forgetNames(dir, 0, EVERY_HASH);
    await mount.server.kernel.settled();
    mount.fs.remoteUnlink('d', '17');
    expect(await run('[ ! -e d/17 ]; [ -e d/18 ]; echo right')).toBe('right\n');
    await run('cd e; seq 1 33000 | xargs -n 3000 touch');
    expect(mount.server.counters().names).toBeGreaterThan(33_000);
    mount.server.kernel.forgetNames(mount.fs.find('e').id, 0, EVERY_HASH);
    await soon(mount.server.kernel.settled());
    // Those given elsewhere in the last seconds are remembered on.
    expect(mount.server.counters().names).toBeLessThan(20);
    mount.fs.remoteUnlink('e', '4711');
    expect(await run('[ ! -e e/4711 ]; [ -e e/4712 ]; echo right')).toBe('right\n');
  });
});
