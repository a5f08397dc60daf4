// SPDX-License-Identifier: GPL-2.0-or-later
//
// One step of the history: what a client's operation, or a hit in its kernel's cache, said at its moment. `applyStep`
// holds it against the model and, if it is right, makes the model follow.

import { Errno, errnoName } from '../../ts/util/errno.ts';
import {
  type Attributes,
  attributeDifference,
  type Model,
  type ModelInode,
  PAGE,
  ZERO_PAGE,
} from './model.ts';

/** What the client that changed an inode sees of it right after. */
export interface Seen {
  readonly node: number;
  readonly attr: Attributes;
}

export type Step =
  | { kind: 'lookup'; dir: number; name: string; result: number; node: number; attr: Attributes }
  | { kind: 'getattr'; node: number; result: number; attr: Attributes }
  | {
      kind: 'make';
      dir: number;
      name: string;
      mode: number;
      target: string;
      result: number;
      node: number;
      seen: readonly Seen[];
    }
  | { kind: 'link'; node: number; dir: number; name: string; result: number; seen: readonly Seen[] }
  | {
      kind: 'remove';
      dir: number;
      name: string;
      isRmdir: boolean;
      result: number;
      seen: readonly Seen[];
    }
  | {
      kind: 'rename';
      sourceDir: number;
      sourceName: string;
      targetDir: number;
      targetName: string;
      noReplace: boolean;
      result: number;
      seen: readonly Seen[];
    }
  | { kind: 'open'; node: number; truncate: boolean; result: number; seen: readonly Seen[] }
  | {
      kind: 'read';
      node: number;
      offset: number;
      length: number;
      /** For a page that the kernel keeps: the kernel goes by its own size, and zeros may fill the page. */
      isPage: boolean;
      result: number;
      bytes: Uint8Array;
    }
  | {
      kind: 'write';
      node: number;
      offset: number;
      isAppend: boolean;
      data: Uint8Array;
      result: number;
      seen: readonly Seen[];
    }
  | { kind: 'resize'; node: number; size: number; result: number; seen: readonly Seen[] }
  | { kind: 'chmod'; node: number; mode: number; result: number; seen: readonly Seen[] }
  | { kind: 'utimens'; node: number; result: number; mtimeSec: number; seen: readonly Seen[] }
  | {
      kind: 'setxattr';
      node: number;
      name: string;
      value: string | undefined;
      flags: number;
      result: number;
      seen: readonly Seen[];
    }
  | { kind: 'getxattr'; node: number; name: string; result: number; value: string }
  | { kind: 'listxattr'; node: number; result: number; names: readonly string[] }
  | { kind: 'readlink'; node: number; result: number; target: string }
  /** What the kernel answered from its own caches; node 0: there is no such name. */
  | { kind: 'cachedName'; dir: number; name: string; node: number }
  | { kind: 'cachedAttr'; node: number; attr: Attributes }
  | { kind: 'cachedPage'; node: number; index: number; bytes: Uint8Array };

export function errnoText(result: number): string {
  return result >= 0 ? String(result) : (errnoName(-result) ?? String(result));
}

/** The words of a step for the trace. */
export function stepText(step: Step): string {
  switch (step.kind) {
    case 'lookup':
      return `lookup ${step.dir}/${step.name} = ${step.result < 0 ? errnoText(step.result) : step.node}`;
    case 'make':
      return `make ${step.dir}/${step.name} ${step.mode.toString(8)} = ${step.result < 0 ? errnoText(step.result) : step.node}`;
    case 'link':
      return `link ${step.node} as ${step.dir}/${step.name} = ${errnoText(step.result)}`;
    case 'remove':
      return `${step.isRmdir ? 'rmdir' : 'unlink'} ${step.dir}/${step.name} = ${errnoText(step.result)}`;
    case 'rename':
      return `rename ${step.sourceDir}/${step.sourceName} to ${step.targetDir}/${step.targetName}${step.noReplace ? ' noreplace' : ''} = ${errnoText(step.result)}`;
    case 'read':
      return `read ${step.node} at ${step.offset} = ${errnoText(step.result)} [${tagOf(step.bytes)}]`;
    case 'write':
      return `${step.isAppend ? 'append' : 'write'} ${step.node} at ${step.offset}, ${step.data.length} bytes [${tagOf(step.data)}] = ${errnoText(step.result)}`;
    case 'resize':
      return `resize ${step.node} to ${step.size} = ${errnoText(step.result)}`;
    case 'cachedName':
      return `cached name ${step.dir}/${step.name} = ${step.node}`;
    case 'cachedAttr':
      return `cached attributes of ${step.node}: size ${step.attr.size} mode ${step.attr.mode.toString(8)}`;
    case 'cachedPage':
      return `cached page ${step.index} of ${step.node} [${tagOf(step.bytes)}]`;
    case 'setxattr':
      return `setxattr ${step.node} ${step.name}=${step.value ?? '(removed)'} = ${errnoText(step.result)}`;
    default:
      return `${step.kind} ${step.node} = ${errnoText(step.result)}`;
  }
}

function tagOf(bytes: Uint8Array): string {
  return bytes.length === 0 ? '' : `${bytes[0]}..${bytes[bytes.length - 1]}`;
}

/**
 * @param isOpen - whether the client has the step's inode open
 * @returns what is wrong, or null when the model agrees and has followed
 */
export function applyStep(model: Model, step: Step, isOpen: boolean): string | null {
  switch (step.kind) {
    case 'lookup':
      return lookup(model, step);
    case 'cachedName': {
      const node = model.directory(step.dir)?.names.get(step.name) ?? 0;
      return node === step.node ? null : `the name is ${node === 0 ? 'not there' : `inode ${node}`}`;
    }
    case 'make':
      return make(model, step);
    case 'remove': {
      const wrong = errorsDiffer(step.result, model.removeErrors(step.dir, step.name, step.isRmdir));
      if (wrong !== undefined) return wrong;
      model.removeName(step.dir, step.name);
      return learn(model, step.seen);
    }
    case 'link': {
      const wrong = errorsDiffer(step.result, model.linkErrors(step.node, step.dir, step.name));
      if (wrong !== undefined) return wrong;
      model.addName(step.dir, step.name, model.get(step.node)!);
      return learn(model, step.seen);
    }
    case 'rename': {
      const { sourceDir, sourceName, targetDir, targetName, noReplace } = step;
      const errors = model.renameErrors(sourceDir, sourceName, targetDir, targetName, noReplace);
      const wrong = errorsDiffer(step.result, errors);
      if (wrong !== undefined) return wrong;
      model.rename(sourceDir, sourceName, targetDir, targetName);
      return learn(model, step.seen);
    }
    default:
      return onInode(model, step, isOpen);
  }
}

/** undefined: it succeeded, and rightly. null: it failed, and rightly. */
function errorsDiffer(result: number, errors: readonly number[]): string | null | undefined {
  if (result >= 0) {
    return errors.length === 0 ? undefined : `it must fail with ${errnoText(-errors[0]!)}`;
  }
  if (errors.includes(-result)) return null;
  return errors.length === 0 ? 'it must succeed' : `it must fail with ${errnoText(-errors[0]!)}`;
}

function learn(model: Model, seen: readonly Seen[]): string | null {
  for (const { node, attr } of seen) {
    const inode = model.get(node);
    if (inode === undefined) return `there is no inode ${node}`;
    model.learnTimes(inode, attr);
    const difference = attributeDifference(attr, inode);
    if (difference !== null) return `inode ${node}: ${difference}`;
  }
  return null;
}

function lookup(model: Model, step: Extract<Step, { kind: 'lookup' }>): string | null {
  const dir = model.directory(step.dir);
  if (dir === undefined) {
    const isRight = [Errno.ENOENT, Errno.ESTALE, Errno.ENOTDIR].some((errno) => errno === -step.result);
    return isRight ? null : 'the directory is gone';
  }
  const node = dir.names.get(step.name);
  if (node === undefined) return step.result === -Errno.ENOENT ? null : 'there is no such name';
  if (step.result !== 0) return `the name is inode ${node}`;
  if (step.node !== node) return `the name is inode ${node}`;
  return differs(model, model.get(node)!, step.attr);
}

/** How what is seen of an inode differs from the model, in words; null when it does not. */
function differs(model: Model, inode: ModelInode, attr: Attributes): string | null {
  if (inode.areTimesOpen) model.learnTimes(inode, attr);
  return attributeDifference(attr, inode);
}

function make(model: Model, step: Extract<Step, { kind: 'make' }>): string | null {
  const wrong = errorsDiffer(step.result, model.addErrors(step.dir, step.name));
  if (wrong !== undefined) return wrong;
  if (model.get(step.node) !== undefined) return `inode ${step.node} was there before`;
  model.make(step.dir, step.name, step.node, step.mode, step.target);
  return learn(model, step.seen);
}

type InodeStep = Exclude<Step, { kind: 'lookup' | 'make' | 'link' | 'remove' | 'rename' | 'cachedName' }>;

function onInode(model: Model, step: InodeStep, isOpen: boolean): string | null {
  const inode = model.get(step.node);
  if (inode === undefined) return `inode ${step.node} was never made`;
  if (step.kind === 'cachedAttr') return inode.areTimesOpen ? null : attributeDifference(step.attr, inode);
  if (step.kind === 'cachedPage') return pageDifference(inode, step.index, step.bytes);
  if (inode.nlink === 0 && (step.result === -Errno.ESTALE || step.result === -Errno.ENOENT)) {
    return !isOpen || inode.isGone ? null : 'the inode is nameless but open here';
  }
  const errors = inodeErrors(inode, step);
  const wrong = errorsDiffer(step.result, errors);
  if (wrong !== undefined) return wrong;
  switch (step.kind) {
    case 'getattr':
      return differs(model, inode, step.attr);
    case 'read': {
      const length = Math.max(0, Math.min(step.length, inode.size - step.offset));
      const isFilled = step.isPage && step.result === step.length;
      if (step.result !== length && !isFilled) return `there are ${length} bytes`;
      return bytesDiffer(inode, step.offset, step.bytes);
    }
    case 'write':
      if (step.result !== step.data.length) return 'it must write everything';
      model.write(inode, step.isAppend ? inode.size : step.offset, step.data);
      if (step.seen.length === 0) model.set(inode, 'areTimesOpen', true);
      break;
    case 'open':
      if (step.truncate) model.resize(inode, 0);
      break;
    case 'resize':
      model.resize(inode, step.size);
      break;
    case 'chmod':
      model.set(inode, 'mode', (inode.mode & 0o170000) | step.mode);
      break;
    case 'setxattr':
      model.setXattr(inode, step.name, step.value);
      break;
    case 'getxattr': {
      const value = inode.xattrs.get(step.name);
      return value === step.value ? null : `the value is ${value}`;
    }
    case 'listxattr': {
      const right = [...inode.xattrs.keys()].sort().join(' ');
      return [...step.names].sort().join(' ') === right ? null : `the names are ${right}`;
    }
    case 'readlink':
      return step.target === inode.target ? null : `the target is ${inode.target}`;
    case 'utimens': {
      const seen = step.seen[0];
      if (seen !== undefined && seen.attr.mtimeSec !== step.mtimeSec) return 'mtime was not set';
      break;
    }
  }
  return 'seen' in step ? learn(model, step.seen) : null;
}

function inodeErrors(inode: ModelInode, step: InodeStep): number[] {
  switch (step.kind) {
    case 'setxattr': {
      const has = inode.xattrs.has(step.name);
      if (step.value === undefined) return has ? [] : [Errno.ENODATA];
      if (step.flags === 1 && has) return [Errno.EEXIST];
      return step.flags === 2 && !has ? [Errno.ENODATA] : [];
    }
    case 'getxattr':
      return inode.xattrs.has(step.name) ? [] : [Errno.ENODATA];
    default:
      return [];
  }
}

export function pageDifference(inode: ModelInode, index: number, bytes: Uint8Array): string | null {
  const right = inode.pages.get(index) ?? ZERO_PAGE;
  if (Buffer.compare(right, bytes) === 0) return null;
  let at = 0;
  while (right[at] === bytes[at]) at++;
  return `byte ${index * PAGE + at} is ${bytes[at]}, not ${right[at]}`;
}

function bytesDiffer(inode: ModelInode, offset: number, bytes: Uint8Array): string | null {
  const end = offset + bytes.length;
  for (let at = offset; at < end; ) {
    const index = Math.floor(at / PAGE);
    const to = Math.min(end, (index + 1) * PAGE);
    const right = (inode.pages.get(index) ?? ZERO_PAGE).subarray(at - index * PAGE, to - index * PAGE);
    const seen = bytes.subarray(at - offset, to - offset);
    if (Buffer.compare(right, seen) !== 0) {
      let place = 0;
      while (right[place] === seen[place]) place++;
      return `byte ${at + place} is ${seen[place]}, not ${right[place]}`;
    }
    at = to;
  }
  return null;
}
