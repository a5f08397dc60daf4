// SPDX-License-Identifier: GPL-2.0-or-later
// The portable driver, by the real command: a mount by fuse-native beside one by our own channel, of one server. What works,
// what is lacking (each line of docs/driver-fuse-native.md, with what a user sees), and how such a mount ends.
//
// Programs are small ones in Perl, which has every system call by number; those are of x86-64, as is the package's addon.

import { spawn } from 'node:child_process';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CommandResult, run } from '../../ts/dev/command.ts';
import { nextCall } from '../acceptance/two_mounts/next_call.ts';
import { Cleanup, checkImage, loopMount, makeLinuxImage } from '../harness/images.ts';
import {
  command,
  mountCrfs,
  mountStats,
  startServer,
  temporaryDirectory,
  withTimeout,
} from '../harness/processes.ts';
import { SeveralMounts } from '../harness/several_mounts.ts';

const PORTABLE = 'driver=fuse-native';
const ANY = Array.from({ length: 256 }, (_, code) => code);

/** What the programs in Perl have in common. `$p` is the portable mount, `$n` the other one. */
const PRELUDE = `
use strict; use warnings; use Fcntl; use POSIX ();
our ($p, $n) = @ARGV; $| = 1;
sub put { my ($f, $t) = @_; open my $h, '>', $f or die "$f: $!"; print $h $t; close $h or die "$f: $!" }
sub get { my ($f) = @_; open my $h, '<', $f or die "$f: $!"; local $/; scalar readline $h }
sub at { my ($h, $l) = @_; sysseek $h, 0, 0; my $x; defined(sysread $h, $x, $l) ? $x : why() }
sub why { (grep { $!{$_} } qw(EACCES EILSEQ EOVERFLOW ENODEV EINVAL EOPNOTSUPP ENOENT ESTALE EBADF EIO))[0] // "errno " . ($! + 0) }
sub done { $_[0] ? 'done' : why() }
sub call { my ($number, @rest) = @_; my $r = syscall($number, @rest); $r >= 0 ? 'done' : why() }
`;

let directory = '';
let several: SeveralMounts;
let portable = '';
let native = '';
const cleanup = new Cleanup();

beforeAll(async () => {
  directory = await temporaryDirectory(cleanup);
  // For those who are not root.
  await chmod(directory, 0o755);
  several = await SeveralMounts.start(directory, cleanup, {
    count: 2,
    size: '2G',
    optionsOf: (index) => (index === 0 ? [PORTABLE] : []),
  });
  [portable, native] = several.paths as [string, string];
});

afterAll(async () => {
  try {
    await several.stop();
    await several.check();
  } finally {
    await cleanup.run();
  }
});

/** Runs a program with both mounts. @returns what it printed */
async function perl(script: string, mounts: readonly string[] = [portable, native]): Promise<string> {
  const { stdout } = await run(['perl', '-e', PRELUDE + script, ...mounts], { timeoutMs: 30_000 });
  return stdout;
}

async function shell(script: string, env: Record<string, string> = {}): Promise<string> {
  const { stdout } = await run(['bash', '-ec', script, 'bash', portable, native, directory], {
    timeoutMs: 60_000,
    env,
  });
  return stdout;
}

function mountAt(
  target: string,
  options: string,
  source = `unix:${several.socket}:/`,
): Promise<CommandResult> {
  const argv = [
    process.execPath,
    command('mount.crfs'),
    source,
    target,
    '-o',
    `log=${directory}/log,${options}`,
  ];
  return run(argv, { allow: ANY, timeoutMs: 60_000 });
}

async function isMounted(target: string): Promise<boolean> {
  return (await run(['findmnt', '-n', target], { allow: [0, 1] })).code === 0;
}

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  const wait = async (): Promise<void> => {
    while (!(await condition())) await new Promise((next) => setTimeout(next, 20));
  };
  await withTimeout(wait(), 20_000, what);
}

describe('what works', () => {
  test('the mount is ours to the kernel, and counts', async () => {
    const { stdout } = await run(['findmnt', '-n', '-o', 'FSTYPE,SOURCE,OPTIONS', portable]);
    expect(stdout).toMatch(/^fuse\.crfs unix:.*:\/ +rw,relatime,user_id=0,group_id=0,default_permissions\n$/);
    await shell('touch "$1/counted"; cat "$1/counted"; rm "$1/counted"');
    expect((await mountStats(portable)).requests).toMatchObject({ mknod: 1, unlink: 1 });
    const status = await run([process.execPath, command('mount.crfs'), 'status', portable]);
    expect(status.stdout).toMatch(/^server +connected$/m);
  });

  test('untar, diff, git and rm', async () => {
    const env = {
      GIT_AUTHOR_NAME: 'a',
      GIT_AUTHOR_EMAIL: 'a@b',
      GIT_COMMITTER_NAME: 'a',
      GIT_COMMITTER_EMAIL: 'a@b',
      GIT_CONFIG_GLOBAL: '/dev/null',
    };
    const script = `
      mkdir "$3/tree" "$1/tree"
      tar -c ts docs node_modules/.bin | tee "$3/tar" | tar -x -C "$3/tree"
      tar -x -C "$1/tree" -f "$3/tar"
      diff -r --no-dereference "$3/tree" "$1/tree"
      diff -r --no-dereference "$3/tree" "$2/tree"
      cd "$1/tree"
      git init -q; git add .; git commit -qm one; echo more >> docs/status.md; git commit -qam two
      git gc -q; git fsck --strict; git status --short
      cd "$2/tree"; git fsck --strict; git log --format=%s
      rm -r "$1/tree"; ls -A "$2"`;
    expect(await shell(script, env)).toBe('two\none\n');
  });

  test('a change on either mount is seen by the very next call on the other', async () => {
    const lacks = ['map', 'held-map', 'mmap-store', 'mmap-store-held', 'punch', 'utimens', 'held-stat'];
    await nextCall([portable, native], 2, () => {}, lacks);
    await shell('rm -r "$1"/next_call*');
  });

  test('devices, fifos, links, owners, modes, xattrs, both times, appends', async () => {
    const script = `
      cd "$1"; mkfifo fifo; mknod device c 1 3; echo one > file; ln file link; ln -s file symbolic
      mkdir -m 2775 group; chgrp 50 group; touch group/member
      chmod 4751 file; setfattr -n user.key -v value file; touch -d @1000000000.125 file
      echo two >> "$2/file"; echo three >> file; echo four > "$2/new"; chown 12:34 new
      touch -d @1000000000.125 file
      cd "$2"; stat -c '%n %F %a %u %g %t,%T %h %.3Y' device fifo file group/member new
      getfattr --only-values -n user.key file; echo; cat file; readlink symbolic
      test "$(stat -c %i file)" = "$(stat -c %i "$1/link")"
      rm -r device fifo file link symbolic group new; ls -A "$1"`;
    expect(
      (await shell(script)).replaceAll(/ \d+\.\d+$/gm, (time) => (time.includes('1000000000') ? time : '')),
    ).toBe(
      'device character special file 644 0 0 1,3 1\n' +
        'fifo fifo 644 0 0 0,0 1\n' +
        'file regular file 4751 0 0 0,0 2 1000000000.125\n' +
        'group/member regular empty file 644 0 50 0,0 1\n' +
        'new regular file 644 12 34 0,0 1\n' +
        'value\none\ntwo\nthree\nfile\n',
    );
  });

  test('an open file that is removed or replaced lives on, unseen, and its name is never missing in between', async () => {
    const script = `
      put("$p/T", 'first');
      open my $h, '+<', "$p/T" or die; unlink "$p/T" or die;
      print join(' ', done(stat "$n/T"), (stat $h)[3], at($h, 9), done(truncate $h, 2), done(chmod 0600, $h), (stat $h)[7]), "\\n";
      open my $again, '<', '/proc/self/fd/' . fileno $h or die; print at($again, 9), "\\n"; close $again;
      put("$p/T", 0);
      pipe my $read, my $write;
      if (!fork) { # Looks until it is told to stop.
        close $write; fcntl $read, F_SETFL, O_NONBLOCK; my $missing = 0;
        for (my $x; !defined(sysread $read, $x, 1); ) { $missing++ unless -e "$p/T" }
        print "missing $missing\\n"; exit;
      }
      for my $round (1 .. 30) {
        open my $held, '<', "$p/T" or die; put("$p/new", $round); rename "$p/new", "$p/T" or die;
        die 'links' if (stat $held)[3]; die 'content' if at($held, 9) ne $round - 1; die 'new' if get("$n/T") ne $round;
      }
      close $write; wait;
      opendir my $d, $n; print join(' ', sort readdir $d), "\\n";
      close $h; unlink "$p/T";`;
    expect(await perl(script)).toBe('ENOENT 0 first done done 2\nfi\nmissing 0\n. .. T\n');
  });
});

/** What is lacking, by the first column of the document's table. */
const LACKS: Readonly<Record<string, () => Promise<void>>> = {
  'users other than root': async () => {
    const script = `put("$p/f", ''); $( = $) = 65534; $< = $> = 65534; print done(stat "$p/f"), ' ', done(stat "$n/f")`;
    expect(await perl(script)).toBe('EACCES done');
    const refused = await mountAt(join(directory, 'mnt0'), `${PORTABLE},allow_other`);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/allow_other.*only root may enter/),
    });
  },
  'names that are not UTF-8': async () => {
    const script = `
      my $bad = "caf\\xe9"; put("$n/$bad", 'x'); symlink $bad, "$n/symbolic"; put("$p/good", '');
      print join(' ', done(open(my $h, '<', "$p/$bad")), done(unlink "$p/$bad"), done(mkdir "$p/\\xff"),
        done(rename "$p/good", "$p/$bad"), done(mkdir "$p/\\xef\\xbf\\xbd"), done(symlink $bad, "$p/other"),
        done(readlink "$p/symbolic"), call(188, "$p/good", "user.\\xff", 'v', 1, 0)), "\\n";
      opendir my $d, $p; print join(' ', grep { /^caf/ } readdir $d), ' ', get("$n/$bad");
      unlink "$n/$bad", "$n/symbolic", "$p/good"`;
    expect(await perl(script)).toBe(`${'EILSEQ '.repeat(8).trim()}\ncaf\ufffd x`);
  },
  'inodes of a subvolume': async () => {
    const image = join(directory, 'linux.image');
    await makeLinuxImage(image, '512M');
    const mounted = await loopMount(image, join(directory, 'linux'), cleanup);
    await run([
      'sh',
      '-ec',
      'btrfs -q subvolume create "$1/sub"; echo x > "$1/sub/file"; echo y > "$1/top"',
      'sh',
      mounted.directory,
    ]);
    await mounted.unmount();
    const server = await startServer(image, `unix:${directory}/linux.sock`, cleanup);
    const mount = await mountCrfs(`unix:${directory}/linux.sock:/`, join(directory, 'subvolumes'), cleanup, [
      PORTABLE,
    ]);
    expect(
      await perl('print join " ", map { done(stat "$p/$_") } qw(sub sub/file top)', [mount.directory]),
    ).toBe('EOVERFLOW EOVERFLOW done');
    await mount.unmount();
    await server.stop();
    await checkImage(image);
  },
  times: async () => {
    const script = `
      cd "$1"; touch -d @1000000000.123456789 cut; touch -d @-1000.5 old; touch -d @1000000000.123456789 "$2/fine"
      stat -c '%.9Y' cut "$2/cut" fine old "$2/old"; rm cut old fine`;
    expect(await shell(script)).toBe(
      '1000000000.123000000\n1000000000.123000000\n1000000000.123000000\n0.000000000\n-1000.500000000\n',
    );
  },
  'one of the two times alone': async () => {
    const script = `
      cd "$1"; touch -d @1000 file; touch -m -d @2000 file; touch -a -d @3000 file; stat -c '%X %Y' "$2/file"
      touch -d @2000 source; cp -p source file; stat -c '%X %Y' "$2/file"; rm file source`;
    expect(await shell(script)).toBe('1000 1000\n2000 2000\n');
  },
  'birth times': async () => {
    expect(await shell('touch "$1/file"; stat -c %w "$1/file"; rm "$1/file"')).toBe('-\n');
  },
  'shared memory maps': async () => {
    const script = `
      put("$p/f", 'mapped'); open my $h, '+<', "$p/f" or die;
      print call(9, 0, 4096, 3, 1, fileno $h, 0), ' ', call(9, 0, 4096, 1, 1, fileno $h, 0)`;
    expect(await perl(script)).toBe('ENODEV ENODEV');
  },
  'private memory maps': async () => {
    const script = `
      put("$p/f", 'old'); open my $h, '<', "$p/f" or die;
      sub map { syscall(9, 0, 4096, 1, 2, fileno $h, 0) }
      sub content { unpack 'P3', pack 'Q', shift }
      my $first = main::map(); print content($first); put("$n/f", 'new');
      print ' ', content($first), ' ', content(main::map())`;
    expect(await perl(script)).toBe('old old new');
  },
  'renameat2 with flags': async () => {
    const script = `
      put("$p/a", 'a'); put("$p/b", 'b');
      print join(' ', call(316, -100, "$p/a", -100, "$p/c", 1), call(316, -100, "$p/a", -100, "$p/b", 2), get("$n/a"));
      unlink "$p/a", "$p/b"`;
    expect(await perl(script)).toBe('EINVAL EINVAL a');
  },
  O_TMPFILE: async () => {
    expect(await perl('print call(257, -100, $p, 020200002, 0600)')).toBe('EOPNOTSUPP');
  },
  fallocate: async () => {
    const script = `open my $h, '>', "$p/f" or die; print call(285, fileno $h, 0, 0, 10000), ' ', -s $h`;
    expect(await perl(script)).toBe('EOPNOTSUPP 0');
  },
  'SEEK_DATA and SEEK_HOLE': async () => {
    const script = `
      put("$p/f", 'data'); truncate "$p/f", 1000000;
      for my $mount ($p, $n) { open my $h, '<', "$mount/f" or die; print sysseek($h, 100000, 3) || why(), ' ', sysseek($h, 0, 4), ' ' }`;
    expect(await perl(script)).toBe('100000 1000000 errno 6 4096 ');
  },
  'O_APPEND set by fcntl': async () => {
    const script = `
      for my $how (0, O_APPEND) {
        put("$p/f", 'abc'); sysopen my $h, "$p/f", O_WRONLY | $how or die; fcntl $h, F_SETFL, O_APPEND;
        { open my $other, '>>', "$n/f" or die; print $other 'def' }
        syswrite $h, 'X'; print get("$n/f"), ' ';
      }`;
    expect(await perl(script)).toBe('abcXef abcdefX ');
  },
  'a descriptor whose name another mount took away': async () => {
    const script = `
      put("$p/f", 'mine'); open my $h, '+<', "$p/f" or die; unlink "$n/f" or die;
      print join(' ', done(stat $h), done(chmod 0600, $h), done(utime 1, 1, $h), at($h, 9), "\\n");
      put("$n/f", 'of others');
      print join(' ', (stat $h)[7], done(chmod 0600, $h), done(chmod 0600, "$p/f"), at($h, 9), done(truncate $h, 2), at($h, 9), "\\n");
      close $h; print done(chmod 0600, "$p/f"), ' ', get("$p/f")`;
    expect(await perl(script)).toBe(
      'ENOENT ENOENT ENOENT mine \n9 ESTALE ESTALE mine done mi \ndone of others',
    );
  },
  'an open file in a removed directory': async () => {
    const script = `
      mkdir "$p/d"; put("$p/d/f", 'inside'); open my $h, '<', "$p/d/f" or die; unlink "$p/d/f";
      print at($h, 9), ' ', done(rmdir "$p/d"), ' ', at($h, 9), ' ', done(stat $h), ' ', done(close $h)`;
    expect(await perl(script)).toBe('inside done ENOENT ENOENT done');
  },
  open_by_handle_at: async () => {
    const script = `
      put("$p/f", 'by handle'); open my $held, '<', "$p/f" or die; my $dir = POSIX::open($p, O_RDONLY);
      my $handle = pack('Ii', 128, 0) . "\\0" x 128; my $mount = pack 'i', 0;
      my $path = "$p/f"; syscall(303, -100, $path, $handle, $mount, 0) and die why();
      my $open = sub { my $f = syscall(304, $dir, $handle, 0); return why() if $f < 0; POSIX::close($f); 'done' };
      print $open->(), ' '; close $held;
      open my $drop, '>', '/proc/sys/vm/drop_caches'; print $drop "2\\n"; close $drop;
      print $open->()`;
    expect(await perl(script)).toBe('done ESTALE');
  },
  'killing a program that waits': async () => {
    await shell('rm -f "$2/f"; mkdir "$2/held"; echo written > "$2/held/f"');
    const holder = several.mounts[1]!.pid;
    process.kill(holder, 'SIGSTOP');
    try {
      const reader = spawn('cat', [join(portable, 'held/f')]);
      const ended = new Promise<NodeJS.Signals | null>((done) =>
        reader.once('exit', (_code, signal) => done(signal)),
      );
      const waits = async (): Promise<boolean> => (await mountStats(portable)).kernel.parked === 1;
      await until(waits, 'cat waits');
      reader.kill('SIGKILL');
      const state = async (): Promise<string> => readFile(`/proc/${reader.pid}/status`, 'utf8');
      await until(async () => /^State:\tD/m.test(await state()), 'cat waits for its answer alone');
      process.kill(holder, 'SIGCONT');
      expect(await withTimeout(ended, 20_000, 'cat does not end')).toBe('SIGKILL');
    } finally {
      process.kill(holder, 'SIGCONT');
    }
    await shell('rm -r "$1/held"');
  },
  'mount options': async () => {
    const target = join(directory, 'options');
    await mkdir(target);
    for (const option of ['strictatime', 'nodiratime']) {
      const refused = await mountAt(target, `${PORTABLE},${option}`);
      expect(refused).toMatchObject({ code: 32, stderr: expect.stringMatching(`no mount option ${option}`) });
    }
    const refused = await mountAt(target, 'driver=fuse');
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/one of native, fuse-native, not fuse\n/),
    });
    cleanup.add(() => run(['umount', '-i', '-l', target], { allow: [0, 32] }));
    const options = 'ro,nosuid,nodev,noexec,noatime';
    expect(await mountAt(target, `relatime,${PORTABLE},${options}`)).toMatchObject({ code: 0, stderr: '' });
    const { stdout } = await run(['findmnt', '-n', '-o', 'OPTIONS', target]);
    expect(stdout).toMatch(new RegExp(`^${options}`));
    expect((await run(['touch', join(target, 'x')], { allow: [1] })).stderr).toMatch(
      /read-only file system/i,
    );
    await run([process.execPath, command('umount.crfs'), target]);
    expect(await isMounted(target)).toBe(false);
  },
};

describe('what is lacking', () => {
  test('the document lists it', async () => {
    const text = await readFile('docs/driver-fuse-native.md', 'utf8');
    const rows = [...text.matchAll(/^\| (.*?) \|/gm)].map((row) => row[1]!);
    expect(rows).toEqual(['what', ...Object.keys(LACKS)]);
  });

  for (const [what, look] of Object.entries(LACKS)) test(what, look);
});

describe('how it begins and ends', () => {
  /** A mount of its own. */
  async function mount(name: string, socket = several.socket): Promise<{ directory: string; pid: number }> {
    return mountCrfs(`unix:${socket}:/`, join(directory, name), cleanup, [PORTABLE]);
  }

  test('without libfuse 2 the mount says what to install', async () => {
    const target = join(directory, 'without');
    await mkdir(target);
    const hide = 'mount --bind /dev/null "$(realpath /usr/lib/x86_64-linux-gnu/libfuse.so.2)"; exec "$@"';
    const argv = ['unshare', '-m', 'sh', '-ec', hide, 'sh', process.execPath, command('mount.crfs')];
    const refused = await run(
      [...argv, `unix:${several.socket}:/`, target, '-o', `log=${directory}/log,${PORTABLE}`],
      {
        allow: ANY,
        timeoutMs: 60_000,
      },
    );
    expect(refused).toMatchObject({ code: 32, stderr: expect.stringMatching(/apt-get install libfuse2/) });
  });

  test('a mount point that is none is refused', async () => {
    expect(await mountAt(join(directory, 'missing'), PORTABLE)).toMatchObject({
      code: 32,
      stderr: expect.stringMatching(/missing/),
    });
    expect(await mountAt(several.image, PORTABLE)).toMatchObject({
      code: 32,
      stderr: expect.stringMatching(/not a directory/),
    });
  });

  test('umount waits while it is in use, makes everything durable, and ends the process', async () => {
    const { directory: target, pid } = await mount('used');
    const user = spawn('sh', [
      '-c',
      'cd "$1"; echo kept > kept; echo inside; read -r line; cat kept',
      'sh',
      target,
    ]);
    const said = (): Promise<string> =>
      new Promise((done) => user.stdout.once('data', (text: Buffer) => done(text.toString())));
    expect(await said()).toBe('inside\n');
    const umount = (...flags: string[]): Promise<CommandResult> =>
      run([process.execPath, command('umount.crfs'), ...flags, target], { allow: ANY, timeoutMs: 60_000 });
    expect(await umount()).toMatchObject({ code: 32, stderr: expect.stringMatching(/busy/) });
    // Detached it is served until nobody uses it.
    expect((await umount('-l')).code).toBe(0);
    expect(await isMounted(target)).toBe(false);
    const kept = said();
    user.stdin.end('go on\n');
    expect(await kept).toBe('kept\n');
    await until(async () => !(await isRunning(pid)), 'the process ends');
    expect(await shell('cat "$2/kept"; rm "$2/kept"')).toBe('kept\n');
  });

  test('SIGTERM unmounts', async () => {
    const { directory: target, pid } = await mount('terminated');
    await run(['touch', join(target, 'made')]);
    process.kill(pid, 'SIGTERM');
    await until(async () => !(await isRunning(pid)), 'the process ends');
    expect(await isMounted(target)).toBe(false);
    await shell('rm "$2/made"');
  });

  test('umount -f ends calls that wait', async () => {
    const { directory: target, pid } = await mount('aborted');
    await shell('echo written > "$2/wanted"');
    const holder = several.mounts[1]!.pid;
    process.kill(holder, 'SIGSTOP');
    try {
      const reader = run(['cat', join(target, 'wanted')], { allow: ANY, timeoutMs: 60_000 });
      await until(async () => (await mountStats(target)).kernel.parked === 1, 'cat waits');
      const umount = run([process.execPath, command('umount.crfs'), '-f', target], {
        allow: ANY,
        timeoutMs: 60_000,
      });
      expect(await reader).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringMatching(/connection abort/),
      });
      process.kill(holder, 'SIGCONT');
      expect((await umount).code).toBe(0);
    } finally {
      process.kill(holder, 'SIGCONT');
    }
    expect(await isMounted(target)).toBe(false);
    await until(async () => !(await isRunning(pid)), 'the process ends');
    await shell('rm "$2/wanted"');
  });

  test('when the server is gone every call fails with EIO, and umount returns', async () => {
    const image = join(directory, 'lost.image');
    await run([process.execPath, command('crfsd'), 'mkfs', image, '--size', '256M']);
    const server = await startServer(image, `unix:${directory}/lost.sock`, cleanup);
    const { directory: target } = await mount('lost', join(directory, 'lost.sock'));
    await run(['touch', join(target, 'file')]);
    await server.kill();
    await until(async () => !(await mountStats(target)).connected, 'the loss is noticed');
    const script =
      'print join " ", done(stat "$p/file"), done(open my $h, ">", "$p/new"), done(mkdir "$p/d")';
    expect(await perl(script, [target])).toBe('EIO EIO EIO');
    const result = await run([process.execPath, command('umount.crfs'), target], {
      allow: [0, 2],
      timeoutMs: 60_000,
    });
    expect(result.stderr).toMatch(result.code === 0 ? /^$/ : /lost/);
    expect(await isMounted(target)).toBe(false);
  });

  async function isRunning(pid: number): Promise<boolean> {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z ');
    return !/\) Z /.test(stat);
  }
});
