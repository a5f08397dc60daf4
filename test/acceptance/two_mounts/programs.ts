// SPDX-License-Identifier: GPL-2.0-or-later
// Real programs share one tree from several mounts: SQLite, git, make and PostgreSQL, each judged by what it keeps itself.
//
// Programs run as shell scripts in processes of their own, with time limits; each scenario takes directories, so that it can
// be tried on a local file system too.

import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../ts/dev/command.ts';
import { ensureCommands, PROGRAM_COMMANDS } from '../../../ts/dev/prerequisites.ts';
import type { Cleanup } from '../../harness/images.ts';
import { SeveralMounts } from '../../harness/several_mounts.ts';
import { type AcceptanceContext, type AcceptanceLine, require, seconds } from '../acceptance.ts';

const TIMEOUT_MS = 600_000;

function shell(
  script: string,
  ...words: string[]
): Promise<{ stdout: string; stderr: string; code: number }> {
  return run(['sh', '-euc', script, 'sh', ...words], { timeoutMs: TIMEOUT_MS });
}

/** One writer at a time by a file made with O_EXCL (that is what noclobber does). */
const SQLITE_WRITER = `
  db="$1/shared.db" lock="$1/shared.lock" writer="$2" count="$3" done=0
  while [ "$done" -lt "$count" ]; do
    until (set -C; : > "$lock") 2> /dev/null; do sleep 0.0"$((1 + writer))"; done
    sqlite3 -bail "$db" "PRAGMA journal_mode=DELETE; BEGIN IMMEDIATE; INSERT INTO entry VALUES($writer, $done, hex(randomblob(200 + $done % 7 * 500))); UPDATE total SET n = n + 1; COMMIT;" > /dev/null
    rm "$lock"
    done=$((done + 1))
  done
`;

/** @throws Error - the database is damaged, or a transaction is lost. */
export async function sqlite(directories: readonly string[], transactions: number): Promise<void> {
  const below = (directory: string): string => join(directory, 'sqlite');
  const first = below(directories[0]!);
  const schema =
    'CREATE TABLE entry(writer, number, text, PRIMARY KEY(writer, number)); CREATE TABLE total(n); INSERT INTO total VALUES(0);';
  await shell('mkdir "$1"; sqlite3 "$1/shared.db" "$2"', first, schema);
  await Promise.all(
    directories.map((directory, index) =>
      shell(SQLITE_WRITER, below(directory), String(index), String(transactions)),
    ),
  );
  const all = directories.length * transactions;
  for (const directory of directories) {
    const query =
      'PRAGMA integrity_check; SELECT n FROM total; SELECT count(*) FROM entry; SELECT min(c), max(c) FROM (SELECT count(*) c FROM entry GROUP BY writer);';
    const { stdout } = await shell('sqlite3 "$1/shared.db" "$2"', below(directory), query);
    const expected = `ok\n${all}\n${all}\n${transactions}|${transactions}\n`;
    require(stdout === expected, `sqlite on ${directory} says:\n${stdout}instead of:\n${expected}`);
  }
}

const GIT_COMMITTER = `
  cd "$1"
  number=0
  while [ "$number" -lt "$3" ]; do
    mkdir -p "dir_$2"
    echo "$2 $number" > "dir_$2/file_$number"
    tries=0
    until git add "dir_$2/file_$number" 2> "$4" && git commit -q -m "commit $2 $number" -- "dir_$2/file_$number" 2> "$4"; do
      tries=$((tries + 1))
      if [ "$tries" -gt 2000 ]; then cat "$4" >&2; exit 1; fi
      sleep 0.0"$((1 + $2))"
    done
    number=$((number + 1))
  done
`;

/** @throws Error - the repository is damaged, or a commit is lost. */
export async function git(directories: readonly string[], commits: number, scratch: string): Promise<void> {
  const below = (directory: string): string => join(directory, 'git');
  const setUp = `
    mkdir "$1"; cd "$1"; git init -q -b main
    git config user.name tester; git config user.email tester@example.org; git config gc.auto 0
    git commit -q --allow-empty -m first
  `;
  await shell(setUp, below(directories[0]!));
  await Promise.all(
    directories.map((directory, index) =>
      shell(
        GIT_COMMITTER,
        below(directory),
        String(index),
        String(commits),
        join(scratch, `git_${index}.err`),
      ),
    ),
  );
  const all = directories.length * commits + 1;
  for (const directory of directories) {
    const verify = `
      cd "$1"
      git fsck --full --strict 2>&1 | grep -v '^dangling' || true
      git log --format=%s | sort -u | wc -l
      git log --format=%s | wc -l
      git status --porcelain
      git ls-files | wc -l
    `;
    const { stdout } = await shell(verify, below(directory));
    const expected = `${all}\n${all}\n${all - 1}\n`;
    require(stdout === expected, `git on ${directory} says:\n${stdout}instead of:\n${expected}`);
  }
}

/** A C tree of two programs that share headers; what is compiled depends on nothing of where it lies. */
async function writeTree(directory: string, files: number): Promise<void> {
  const half = Math.floor(files / 2);
  await mkdir(join(directory, 'include'), { recursive: true });
  const declarations: string[] = [];
  for (const part of ['a', 'b']) {
    await mkdir(join(directory, part), { recursive: true });
    const calls: string[] = [];
    for (let number = 0; number < half; number += 1) {
      const name = `${part}_${number}`;
      declarations.push(`int ${name}(int);`);
      calls.push(`sum = ${name}(sum);`);
      const body = `#include "all.h"\n#include <string.h>\nint ${name}(int x) { char t[64]; memset(t, x, sizeof t); return x * ${number + 3} + t[${number % 64}]; }\n`;
      await writeFile(join(directory, part, `${name}.c`), body);
    }
    const main = `#include "all.h"\n#include <stdio.h>\nint main(void) { int sum = 1; ${calls.join(' ')} printf("%d\\n", sum); return 0; }\n`;
    await writeFile(join(directory, part, 'main.c'), main);
  }
  await writeFile(join(directory, 'include', 'all.h'), `${declarations.join('\n')}\n`);
  const makefile = ['a', 'b']
    .map(
      (part) =>
        `${part}_objects := $(patsubst %.c,%.o,$(sort $(wildcard ${part}/*.c)))\n` +
        `${part}.out: $(${part}_objects)\n\tcc -o $@ $^\n` +
        `${part}/%.o: ${part}/%.c include/all.h\n\tcc -O0 -Iinclude -c -o $@ $<\n`,
    )
    .join('\n');
  await writeFile(join(directory, 'Makefile'), makefile);
}

/** Two mounts each build one half of a tree. @throws Error - when it differs from what a local build makes. */
export async function make(directories: readonly string[], files: number, scratch: string): Promise<void> {
  const local = join(scratch, 'tree');
  await writeTree(local, files);
  const shared = (index: number): string => join(directories[index]!, 'make');
  await shell('cp -r "$1" "$2"', local, shared(0));
  await shell('make -s -C "$1" -j2 a.out b.out', local);
  await Promise.all(
    ['a.out', 'b.out'].map((target, index) => shell('make -s -C "$1" -j2 "$2"', shared(index), target)),
  );
  const sums = async (directory: string): Promise<string> => {
    const script = 'cd "$1"; find . -type f | sort | xargs sha256sum; ./a.out; ./b.out';
    return (await shell(script, directory)).stdout;
  };
  const expected = await sums(local);
  for (const index of [0, 1]) {
    require((await sums(shared(index))) === expected, `the build seen on ${shared(index)} differs`);
    const { stdout } = await shell('make -C "$1" -n a.out b.out', shared(index));
    require(!/cc -/.test(stdout), `make would build again on ${shared(index)}:\n${stdout}`);
  }
}

/** Where Debian has the programs of the newest PostgreSQL that is installed. */
async function postgresBin(): Promise<string> {
  const versions = (await readdir('/usr/lib/postgresql')).map(Number).sort((one, other) => one - other);
  return `/usr/lib/postgresql/${versions.at(-1)}/bin`;
}

/** A database moves from mount to mount. @throws Error - when its balances are wrong. */
export async function postgres(
  directories: readonly string[],
  transactions: number,
  scratch: string,
  cleanup: Cleanup,
): Promise<void> {
  const bin = await postgresBin();
  const sockets = join(scratch, 'sockets');
  await mkdir(sockets);
  await chmod(scratch, 0o755);
  await shell('mkdir "$2/pg"; chown postgres "$1" "$2/pg"; chmod 700 "$2/pg"', sockets, directories[0]!);
  const asPostgres = (script: string, ...words: string[]): Promise<{ stdout: string }> =>
    run(['runuser', '-u', 'postgres', '--', 'sh', '-euc', script, 'sh', bin, sockets, ...words], {
      timeoutMs: TIMEOUT_MS,
      cwd: '/',
    });
  await asPostgres('"$1/initdb" -A trust --wal-segsize=1 "$3" > /dev/null', join(directories[0]!, 'pg'));
  const log = join(sockets, 'log');
  for (const [index, directory] of directories.entries()) {
    const data = join(directory, 'pg');
    const stop = (): Promise<unknown> => asPostgres('"$1/pg_ctl" -D "$3" -m fast -w stop > /dev/null', data);
    cleanup.add(() => stop().catch(() => undefined));
    await asPostgres(
      '"$1/pg_ctl" -D "$3" -l "$4" -w -o "-k $2 -c listen_addresses=" start > /dev/null || { tail "$4"; exit 1; }',
      data,
      log,
    );
    if (index === 0) await asPostgres('"$1/pgbench" -h "$2" -q -i postgres 2> /dev/null');
    await asPostgres(
      '"$1/pgbench" -h "$2" -n -c 4 -t "$3" postgres > "$2/said" 2>&1 || { tail -n 5 "$2/said"; grep -E "PANIC|FATAL|ERROR" "$2/log" | head -n 5; exit 1; }',
      String(transactions),
    );
    const query =
      'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history), (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history), (SELECT count(*) FROM pgbench_history)';
    const { stdout } = await asPostgres('"$1/psql" -h "$2" -At -c "$3" postgres', query);
    const expected = `t|t|t|${(index + 1) * 4 * transactions}\n`;
    require(stdout ===
      expected, `postgres on ${directory} says ${stdout.trim()} instead of ${expected.trim()}`);
    await stop();
  }
}

async function line(context: AcceptanceContext): Promise<void> {
  await ensureCommands(PROGRAM_COMMANDS);
  const { directory, cleanup, measure, quick } = context;
  const several = await SeveralMounts.start(join(directory, 'crfs'), cleanup, { count: 4 });
  await chmod(directory, 0o755);
  const paths = several.paths;
  const faults: string[] = [];
  const scenario = async (name: string, body: (scratch: string) => Promise<void>): Promise<void> => {
    const scratch = join(directory, name.replace(/\W.*/, ''));
    await mkdir(scratch);
    try {
      const took = await seconds(() => body(scratch));
      measure(`${name}: right, ${took.toFixed(1)} s`);
    } catch (error) {
      faults.push(`${name}: ${(error as Error).message}`);
    }
  };
  const [transactions, commits, files] = quick ? [25, 10, 60] : [250, 100, 300];
  await scenario(`sqlite, 4 writers, ${transactions} transactions each`, () => sqlite(paths, transactions));
  await scenario(`git, 4 committers, ${commits} commits each`, (scratch) => git(paths, commits, scratch));
  await scenario(`make -j of ${files} files from two mounts`, (scratch) => make(paths, files, scratch));
  await scenario('postgres, moved over 4 mounts', (scratch) =>
    postgres(paths, quick ? 50 : 500, scratch, cleanup),
  );
  measure(await several.figures());
  if (faults.length > 0) throw new Error(faults.join('\n\n'));
  await several.stop();
  await several.check();
}

export const PROGRAMS: AcceptanceLine = {
  name: 'programs',
  title: 'SQLite, git, make and PostgreSQL on shared trees lose nothing',
  run: line,
};
