// SPDX-License-Identifier: GPL-2.0-or-later
// Real programs on a real mount: every kind of request, through the native driver, against a file system in memory.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FuseMount } from '../fixtures/fuse_mount.ts';

let mount: FuseMount;

beforeEach(async () => {
  mount = await FuseMount.create();
});

afterEach(async () => {
  await mount.destroy();
});

/** Runs a script that must succeed, and returns what it printed. */
async function run(script: string): Promise<string> {
  const { code, stdout, stderr } = await mount.shell(`set -e; ${script}`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
}

describe('files on a mount', () => {
  it('are made, written, read, renamed and removed', async () => {
    const printed = await run(`
      mkdir -p a/b; echo hello > a/b/f; cat a/b/f; cp a/b/f a/g; echo more >> a/g; cat a/g
      mv a/g a/b/h; ls a/b; ln a/b/h a/hard; stat -c %h a/hard; ln -s b/h a/soft; readlink a/soft; cat a/soft
      rm a/b/h; stat -c %h a/hard; rm -r a; ls -a`);
    expect(printed).toBe('hello\nhello\nmore\nf\nh\n2\nb/h\nhello\nmore\n1\n.\n..\n');
  });

  it('keep attributes, odd times and names of any bytes', async () => {
    const printed = await run(`
      touch -d @-1000000000.123456789 old; stat -c %.9Y old
      touch -d '2500-01-01 00:00:00.5 UTC' new; stat -c %.9Y new
      n=$(printf '\\377%.0s' $(seq 255)); touch "$n"; ls | wc -l; rm "$n"
      chmod 6751 old; chown 1234:4321 new; stat -c '%a %u:%g' old new
      mknod fifo p; mknod dev c 10 2000; stat -c '%F %t:%T' fifo dev`);
    expect(printed.split('\n')).toEqual([
      '-1000000000.123456789',
      '16725225600.500000000',
      '3',
      '6751 0:0',
      '644 1234:4321',
      'fifo 0:0',
      'character special file a:7d0',
      '',
    ]);
  });

  it('are truncated, sparse, allocated and copied', async () => {
    const printed = await run(`
      head -c 300000 /dev/urandom > f; sum=$(sha256sum < f); cp f g; [ "$sum" = "$(sha256sum < g)" ]
      truncate -s 5000 g; cmp -n 5000 f g; stat -c %s g; : > g; stat -c %s g
      fallocate -l 10000 g; stat -c %s g; truncate -s 3G h; stat -c %s h; rm h
      dd if=f of=i bs=1M status=none; cmp f i; dd if=f of=j bs=333 status=none; cmp f j
      dd if=f of=k bs=4096 oflag=direct,append iflag=fullblock conv=notrunc count=3 status=none; cmp -n 12288 f k`);
    expect(printed).toBe('5000\n0\n10000\n3221225472\n');
  });

  it('carry extended attributes', async () => {
    await run(`
      touch f; python3 - <<'PY'
import os
os.setxattr('f', 'user.a', b'x' * 3000)
os.setxattr('f', 'user.b', b'')
assert sorted(os.listxattr('f')) == ['user.a', 'user.b']
assert os.getxattr('f', 'user.a') == b'x' * 3000
assert os.getxattr('f', 'user.b') == b''
os.removexattr('f', 'user.a')
try:
    os.getxattr('f', 'user.a')
    raise SystemExit('still there')
except OSError as error:
    assert error.errno == 61
PY`);
  });

  it('lose set-user-ID when another user writes or the owner changes', async () => {
    const printed = await run(`
      touch f g; chmod 6777 f g; chown 5:5 g; stat -c %a g
      python3 -c "
import os
os.setgid(1234); os.setuid(1234)
with open('f', 'w') as f: f.write('x')"
      stat -c %a f`);
    expect(printed).toBe('777\n777\n');
  });

  it('are appended to at their true end', async () => {
    await run('printf 12345 > f');
    mount.fs.remoteWrite('f', '1234567890');
    await run('printf abc >> f');
    expect(Buffer.from(mount.fs.find('f').data.subarray(0, mount.fs.find('f').size)).toString()).toBe(
      '1234567890abc',
    );
  });

  it('can be mapped, written through the map and read back', async () => {
    await run(`
      python3 - <<'PY'
import mmap
with open('f', 'w+b') as f:
    f.truncate(10000)
    m = mmap.mmap(f.fileno(), 0)
    m[5000:5005] = b'hello'
    m.flush()
    m.close()
with open('f', 'rb') as f:
    assert f.read()[5000:5005] == b'hello'
PY`);
    const { data } = mount.fs.find('f');
    expect(Buffer.from(data.subarray(5000, 5005)).toString()).toBe('hello');
  });

  it('wait for durability in fsync and with O_SYNC', async () => {
    await run(`
      python3 - <<'PY'
import os
fd = os.open('f', os.O_WRONLY | os.O_CREAT)
os.write(fd, b'a')
os.fsync(fd)
fd = os.open('f', os.O_WRONLY | os.O_SYNC)
assert os.write(fd, b'bc') == 2
dir = os.open('.', os.O_RDONLY)
os.fsync(dir)
PY`);
    expect(mount.fs.syncs).toBeGreaterThanOrEqual(3);
  });

  it('outlive their last name while they are open', async () => {
    const printed = await run(`exec 3<> f; echo text >&3; rm f; cat /proc/self/fd/3 /dev/null; ls`);
    expect(printed).toBe('text\n');
    expect(mount.fs.nodes.size).toBe(1);
  });

  it('answer rename flags and what is not supported', async () => {
    const printed = await run(`
      touch a b; python3 - <<'PY'
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def renameat2(flags):
    return 0 if libc.renameat2(-100, b'a', -100, b'b', flags) == 0 else ctypes.get_errno()
print(renameat2(1) == errno.EEXIST, renameat2(2) == errno.EINVAL, renameat2(0))
try:
    os.open('.', os.O_TMPFILE | os.O_RDWR)
except OSError as error:
    print(error.errno == errno.EOPNOTSUPP)
with open('b', 'wb') as b:
    b.write(b'x' * 100)
with open('b', 'rb') as b, open('c', 'wb') as c:
    print(os.copy_file_range(b.fileno(), c.fileno(), 100))
PY`);
    expect(printed).toBe('True True 0\nTrue\n100\n');
  });
});

describe('directories on a mount', () => {
  it('list thousands of names, each once, also while names are added', async () => {
    const printed = await run(`
      mkdir d; cd d; touch $(seq -f 'file-with-a-longer-name-%g' 5000); ls | wc -l; ls -l | wc -l
      cd ..; python3 - <<'PY'
import os
seen = []
for entry in os.scandir('d'):
    seen.append(entry.name)
    open('d/new-%d' % len(seen), 'w').close()
old = [name for name in seen if name.startswith('file')]
print(len(old), len(set(old)), len(seen) < 10001)
PY
      rm -r d`);
    expect(printed).toBe('5000\n5001\n5000 5000 True\n');
  });

  it('give attributes with READDIRPLUS', async () => {
    await run('mkdir d; touch d/$(seq -s " d/" 100)');
    await mount.shell('echo 2 > /proc/sys/vm/drop_caches');
    const before = mount.server.counters().requests['lookup'] ?? 0;
    await run('ls -l d > /dev/null');
    const { requests } = mount.server.counters();
    expect(requests['readdirplus']).toBeGreaterThan(0);
    expect((requests['lookup'] ?? 0) - before).toBeLessThan(20);
  });
});

describe('what the kernel holds', () => {
  it('is forgotten when it forgets', async () => {
    await run('mkdir d; touch d/$(seq -s " d/" 300)');
    expect(mount.server.counters().nodes).toBeGreaterThan(300);
    await run('rm -r d; sync; echo 2 > /proc/sys/vm/drop_caches');
    await run('true');
    expect(mount.server.counters().nodes).toBe(0);
    expect(mount.fs.forgotten.length).toBeGreaterThan(300);
  });

  it('is used without asking again', async () => {
    // A listing makes the kernel ask for the directory's time of access once more, which a shell's start wants.
    await run('echo x > f; cat f; stat f > /dev/null; ls -l; [ ! -e missing ]; ls -l > /dev/null; stat f .');
    const before = { ...mount.server.counters().requests };
    await run('stat f > /dev/null; [ ! -e missing ]');
    const after = mount.server.counters().requests;
    expect({ lookup: after['lookup'], getattr: after['getattr'] }).toEqual({
      lookup: before['lookup'],
      getattr: before['getattr'],
    });
  });
});

describe('a mount', () => {
  it('shows its space, its type and its flags', async () => {
    const line = await run(
      `df -B1 --output=size,avail . | tail -1; grep ' ${mount.directory} ' /proc/mounts`,
    );
    expect(line).toMatch(/^ *1073741824 +268435456\nmemory \S+ fuse\.crfs rw,/);
  });

  it('ends with umount, and says so', async () => {
    const { code } = await mount.shell(`cd /; umount ${mount.directory}`);
    expect(code).toBe(0);
    expect(await mount.closed).toBeNull();
  });
});
