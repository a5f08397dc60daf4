// SPDX-License-Identifier: GPL-2.0-or-later
//
// The error classes of CRFS. A rejected promise or a throw below the command line is always one of these; whoever
// catches maps it to another of them with `cause`, or lets it pass.
//
//   FsError          a failure that a caller of the file system can see; an errno
//   CorruptionError  an FsError (EUCLEAN): the image or an item page is not what it must be
//   ProtocolError    the peer broke a rule of the protocol; its connection ends with a goodbye that says why
//   ConnectionError  the connection ended or never came about; the mount turns it into an errno at its edge
//   AssertionError   our own bug; never caught below the command line, the process ends

import { Errno, type ErrnoName, errnoName, knownErrno } from './errno.ts';

/** What an FsError may say besides its errno and text. */
export interface FsErrorDetail {
  cause?: unknown;
}

/** A failure that a POSIX caller can see. Its fields have the names of Node's own errors. */
export class FsError extends Error {
  /** `ENOENT` and the like. */
  readonly code: ErrnoName;
  /** Linux number, positive. */
  readonly errno: number;

  /**
   * @param errno - a Linux number; one that Linux does not know becomes EIO
   * @param text - one line, without the errno's name, which is put before it
   */
  constructor(errno: number, text: string, detail: FsErrorDetail = {}) {
    const known = knownErrno(errno);
    const code = errnoName(known) ?? 'EIO';
    super(`${code}: ${text}`, 'cause' in detail ? { cause: detail.cause } : {});
    this.name = 'FsError';
    this.code = code;
    this.errno = known;
  }

  /** The text without the errno's name: what goes over the wire beside the number. */
  get text(): string {
    return this.message.slice(this.code.length + 2);
  }
}

/** The image, or what came from it, is damaged. One line that names tree, key and what is wrong. */
export class CorruptionError extends FsError {
  constructor(text: string, detail: FsErrorDetail = {}) {
    super(Errno.EUCLEAN, text, detail);
    this.name = 'CorruptionError';
  }
}

/** The peer broke the protocol. The connection that it came over ends; nothing is retried. */
export class ProtocolError extends Error {
  constructor(text: string, detail: FsErrorDetail = {}) {
    super(text, 'cause' in detail ? { cause: detail.cause } : {});
    this.name = 'ProtocolError';
  }
}

/** The connection ended, was refused, or stayed silent for too long. */
export class ConnectionError extends Error {
  /** Why, where an errno is known: ECONNRESET, ETIMEDOUT, or what the peer's goodbye said. */
  readonly errno: number;

  constructor(text: string, errno: number = Errno.ECONNRESET, detail: FsErrorDetail = {}) {
    super(text, 'cause' in detail ? { cause: detail.cause } : {});
    this.name = 'ConnectionError';
    this.errno = knownErrno(errno);
  }
}

/** Our own bug. */
export class AssertionError extends Error {
  constructor(text: string) {
    super(text);
    this.name = 'AssertionError';
  }
}

/** The text of anything that was thrown. */
export function errorText(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
