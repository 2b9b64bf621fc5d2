// The numeric fixtures of tests/golden: reading them, and the formula that fills their weights.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** The tensors of a safetensors file: name to { shape, values }. */
export function readSafetensors(bytes) {
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
  const out = {};
  for (const [name, about] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [from, to] = about.data_offsets.map((o) => 8 + length + o);
    const copy = bytes.buffer.slice(bytes.byteOffset + from, bytes.byteOffset + to);
    const kind = { F32: Float32Array, I64: BigInt64Array, U8: Uint8Array }[about.dtype];
    if (!kind) throw new Error(`${name}: ${about.dtype} is not known here`);
    out[name] = { shape: about.shape, values: new kind(copy) };
  }
  return out;
}

/** A safetensors file of f32 tensors, [name, shape, values] each, and what it says of itself. */
export function writeSafetensors(tensors, metadata) {
  const header = metadata ? { __metadata__: metadata } : {};
  let at = 0;
  for (const [name, shape, values] of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at + 4 * values.length] };
    at += 4 * values.length;
  }
  let json = Buffer.from(JSON.stringify(header));
  json = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const out = Buffer.alloc(8 + json.length + at);
  out.writeBigUInt64LE(BigInt(json.length), 0);
  json.copy(out, 8);
  at = 8 + json.length;
  for (const [, , values] of tensors) {
    Buffer.from(values.buffer, values.byteOffset, values.byteLength).copy(out, at);
    at += 4 * values.length;
  }
  return out;
}

/** A `.pth` whose pickle calls `module.name('echo')`: the layout of PyTorch's zip, stored, with one entry. */
export function hostilePth(module, name) {
  const pickle = Buffer.concat([Buffer.from([0x80, 2]), Buffer.from(`c${module}\n${name}\n`), Buffer.from([0x58, 4, 0, 0, 0]), Buffer.from('echo'), Buffer.from([0x85, 0x52, 0x2e])]);
  const path = Buffer.from('archive/data.pkl');
  const u16 = (v) => [v & 255, v >> 8];
  const u32 = (v) => [...u16(v & 0xffff), ...u16(v >>> 16)];
  const common = [...u16(20), ...u16(0), ...u16(0), ...u32(0), ...u32(crc32(pickle)), ...u32(pickle.length), ...u32(pickle.length), ...u16(path.length), ...u16(0)];
  const local = Buffer.concat([Buffer.from([0x50, 0x4b, 3, 4, ...common]), path, pickle]);
  const central = Buffer.concat([
    Buffer.from([0x50, 0x4b, 1, 2, ...u16(20), ...common, ...u16(0), ...u16(0), ...u16(0), ...u32(0), ...u32(0)]), path,
  ]);
  const end = Buffer.from([0x50, 0x4b, 5, 6, ...u16(0), ...u16(0), ...u16(1), ...u16(1), ...u32(central.length), ...u32(local.length), ...u16(0)]);
  return Buffer.concat([local, central, end]);
}

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

/** Names of the fixtures that start with `prefix`, sorted; at least one. */
export function fixtures(folder, prefix) {
  const names = readdirSync(folder).filter((n) => n.startsWith(prefix) && n.endsWith('.json')).map((n) => n.slice(0, -5)).sort();
  if (!names.length) throw new Error(`no fixture ${prefix}* in ${folder}`);
  return names;
}

export function fixture(folder, name) {
  const json = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'));
  return { name, json, config: json.config, tensors: readSafetensors(readFileSync(join(folder, `${name}.safetensors`))) };
}

/** Value u in [-1, 1] of every entry of a tensor, by the fixtures' hash. */
export function formula(salt, name, count) {
  let h = 0x811c9dc5;
  for (const byte of Buffer.from(salt + name)) h = Math.imul(h ^ byte, 0x01000193);
  const out = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    let x = h ^ Math.imul(i, 0x9e3779b1);
    x ^= x >>> 16;
    x = Math.imul(x, 0x85ebca6b);
    x ^= x >>> 13;
    x = Math.imul(x, 0xc2b2ae35);
    x ^= x >>> 16;
    out[i] = ((x >>> 0) / 4294967296) * 2 - 1;
  }
  return out;
}

function formulaTensor(salt, name, shape) {
  const count = shape.reduce((a, b) => a * b, 1);
  const fanIn = shape.slice(1).reduce((a, b) => a * b, 1);
  const scale = (u) => {
    if (name.endsWith('pos_embed') || name.endsWith('cls_token')) return 0.02 * u;
    if (shape.length >= 2) return u / Math.sqrt(fanIn);
    return name.endsWith('.weight') ? 1 + 0.1 * u : 0.1 * u;
  };
  return [name, shape, Float32Array.from(formula(salt, name, count), scale)];
}

/** A Vision Transformer's file with formula weights; `others` are tensors of another shape, by name. */
export function formulaVit(config, others = {}) {
  const { salt, embed_dim: d, depth, patch, img_size_of_pos_embed: side, mlp_ratio: ratio } = config;
  const cells = (side / patch) ** 2;
  const shapes = {
    cls_token: [1, 1, d],
    pos_embed: [1, 1 + cells, d],
    'patch_embed.proj.weight': [d, 3, patch, patch],
    'patch_embed.proj.bias': [d],
    'norm.weight': [d],
    'norm.bias': [d],
  };
  for (let i = 0; i < depth; i++) {
    const block = {
      'norm1.weight': [d], 'norm1.bias': [d],
      'attn.qkv.weight': [3 * d, d], 'attn.qkv.bias': [3 * d],
      'attn.proj.weight': [d, d], 'attn.proj.bias': [d],
      'norm2.weight': [d], 'norm2.bias': [d],
      'mlp.fc1.weight': [ratio * d, d], 'mlp.fc1.bias': [ratio * d],
      'mlp.fc2.weight': [d, ratio * d], 'mlp.fc2.bias': [d],
    };
    for (const [name, shape] of Object.entries(block)) shapes[`blocks.${i}.${name}`] = shape;
  }
  return writeSafetensors(Object.entries({ ...shapes, ...others }).map(([name, shape]) => formulaTensor(salt, name, shape)));
}

/** |a - b| <= atol + rtol·|b| everywhere, or an error with the worst entry. */
export function assertClose(what, found, expected, { atol, rtol = 0 }) {
  if (found.length !== expected.length) throw new Error(`${what}: expected ${expected.length} values, found ${found.length}`);
  let worst = { excess: -Infinity, at: 0 };
  for (let i = 0; i < found.length; i++) {
    const apart = Math.abs(found[i] - expected[i]);
    const excess = Number.isFinite(apart) ? apart - (atol + rtol * Math.abs(expected[i])) : Infinity;
    if (excess > worst.excess) worst = { excess, at: i };
  }
  if (worst.excess > 0) {
    const i = worst.at;
    throw new Error(`${what}[${i}]: expected ${expected[i]}, found ${found[i]} (atol ${atol}, rtol ${rtol})`);
  }
}
