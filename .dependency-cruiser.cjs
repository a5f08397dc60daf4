// SPDX-License-Identifier: GPL-2.0-or-later
// Which layer may import which. `npm run check` runs it over ts/ (type imports count too).
//
//   util < item, wire < coherency, store < server, client < fuse, sys < cli < bench, dev
//
// A file imports its own folder and lower layers only; server and client never import each other. Each package and
// each kind of node: module has the one place where it may be used, so that the layers below stay pure.

/** Folder -> folders it may import besides itself. */
const layers = {
  util: [],
  item: ['util'],
  wire: ['util', 'item'],
  coherency: ['util', 'item', 'wire'],
  store: ['util', 'item', 'wire'],
  server: ['util', 'item', 'wire', 'coherency', 'store'],
  client: ['util', 'item', 'wire', 'coherency'],
  fuse: ['util', 'item', 'wire', 'coherency', 'client'],
  sys: ['util', 'item', 'wire', 'coherency', 'store'],
};

const layerRules = Object.entries(layers).map(([layer, allowed]) => ({
  name: `layer-${layer}`,
  severity: 'error',
  comment: `ts/${layer} may import only: ${[layer, ...allowed].join(', ')}`,
  from: { path: `^ts/${layer}/` },
  to: { path: '^ts/', pathNot: `^ts/(${[layer, ...allowed].join('|')})/` },
}));

/** A module (or package) that only some files may import. */
function only(name, to, fromPathNot) {
  return { name, severity: 'error', from: { path: '^ts/', pathNot: fromPathNot }, to };
}

module.exports = {
  forbidden: [
    ...layerRules,
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-unresolved',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, pathNot: 'native/index\\.js$' },
    },
    {
      name: 'dev-is-not-shipped',
      severity: 'error',
      from: { path: '^ts/', pathNot: '^ts/dev/' },
      to: { path: '^ts/dev/' },
    },
    {
      name: 'bench-uses-commands',
      severity: 'error',
      comment: 'crfs-bench measures what any user sees, so it knows nothing of what is below ts/cli',
      from: { path: '^ts/bench/' },
      to: { path: '^ts/', pathNot: '^ts/(bench|cli)/' },
    },
    only(
      'node-modules-at-the-edge',
      { dependencyTypes: ['core'], pathNot: '^(node:)?buffer$' },
      '^ts/(sys|cli|bench|dev)/|^ts/store/native_volume\\.ts$|^ts/fuse/(fuse_)?native_driver\\.ts$',
    ),
    only('cbor-in-the-codec', { path: 'node_modules/cbor-x' }, '^ts/wire/codec\\.ts$'),
    only('fuse-native-in-its-driver', { path: 'fuse-native' }, '^ts/fuse/fuse_native_driver\\.ts$'),
    only('clipanion-in-cli', { path: 'node_modules/(clipanion|typanion)' }, '^ts/(cli|bench)/'),
    only(
      'addon-behind-adapters',
      { path: '^native/' },
      '^ts/store/native_volume\\.ts$|^ts/fuse/native_driver\\.ts$|^ts/sys/(datagram|system_call|v8_options)\\.ts$|^ts/cli/(image|native_checksums)\\.ts$',
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'types'] },
  },
};
