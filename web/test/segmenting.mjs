// Segmentation heads without a browser: the numbers by plain loops, the fixture `fcn_step`, files that are refused. Part of unit.mjs;
// `node test/segmenting.mjs` alone needs `npx tsc -p ocelli` before.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fittedSize, fitted } from '../ocelli/dist/fitted.js';
import { OcelliError, SegmentationHead } from '../ocelli/dist/index.js';
import { PatchHead } from '../ocelli/dist/patch-head.js';
import { likeliest, taps } from '../ocelli/dist/upsample.js';
import { Convolution } from '../ocelli/dist/winograd.js';
import { finish, runEach } from './each.mjs';
import { assertClose, fixture, fixtures, formula, writeSafetensors } from './fixtures.mjs';

const same = (what, found, expected) => {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: expected ${b}, found ${a}`);
};
const refused = (what, run, code, words) => {
  try {
    run();
  } catch (error) {
    const fine = error instanceof OcelliError && error.code === code && words.test(error.message);
    if (!fine) throw new Error(`${what}: expected ${code} and ${words}, found ${error.code} and ${error.message}`);
    return;
  }
  throw new Error(`${what}: expected a refusal, found none`);
};
const filled = (name, count, scale = 1, shift = 0) => Float32Array.from(formula('segment', name, count), (u) => shift + scale * u);

/** Four tensors of a normalisation, with usual numbers. */
const norm = (prefix, n) => [
  [`${prefix}bn.weight`, [n], filled(`${prefix}weight`, n, 0.3, 1)], [`${prefix}bn.bias`, [n], filled(`${prefix}bias`, n, 0.2)],
  [`${prefix}bn.running_mean`, [n], filled(`${prefix}mean`, n, 0.5)], [`${prefix}bn.running_var`, [n], filled(`${prefix}var`, n, 0.4, 0.6)],
];
const classifier = (classes, n) => [
  ['decode_head.conv_seg.weight', [classes, n, 1, 1], filled('classifier', classes * n)], ['decode_head.conv_seg.bias', [classes], filled('offset', classes, 0.1)],
];
/** Tensors of a head of each kind. */
export const linearHead = (dim, classes) => [...norm('decode_head.', dim), ...classifier(classes, dim)];
export const convHead = (dim, channels, classes) => [
  ['decode_head.convs.0.conv.weight', [channels, dim, 3, 3], filled('taps', channels * dim * 9, 0.3)],
  ...norm('decode_head.convs.0.', channels), ...classifier(classes, channels),
];
const bytesOf = (tensors, metadata) => new Uint8Array(writeSafetensors(tensors, metadata));
const read = (tensors, metadata) => SegmentationHead.read(bytesOf(tensors, metadata));

/** What a head says, by its definition: nothing folded, one number after another. */
function naive(tensors, patches, rows, columns) {
  const of = Object.fromEntries(tensors.map(([name, shape, values]) => [name.replace('decode_head.', ''), { shape, values }]));
  const prefix = of['convs.0.conv.weight'] ? 'convs.0.' : '';
  const normed = (x, i) => {
    const [w, b, m, v] = ['weight', 'bias', 'running_mean', 'running_var'].map((n) => of[`${prefix}bn.${n}`].values[i]);
    return ((x - m) / Math.sqrt(v + 1e-5)) * w + b;
  };
  const [classes, inputs] = of['conv_seg.weight'].shape;
  const [cells, dim] = [rows * columns, patches.length / (rows * columns)];
  const seen = (row, column, i) => {
    if (!prefix) return normed(patches[(row * columns + column) * dim + i], i);
    let sum = 0;
    for (let c = 0; c < dim; c++) {
      for (let dy = -1; dy <= 1; dy++) {
        for (let dx = -1; dx <= 1; dx++) {
          const [y, x] = [row + dy, column + dx];
          if (y < 0 || y >= rows || x < 0 || x >= columns) continue;
          sum += patches[(y * columns + x) * dim + c] * of['convs.0.conv.weight'].values[((i * dim + c) * 3 + dy + 1) * 3 + dx + 1];
        }
      }
    }
    return Math.max(0, normed(sum, i));
  };
  const out = new Float64Array(classes * cells);
  for (let cell = 0; cell < cells; cell++) {
    const features = Array.from({ length: inputs }, (_, i) => seen(Math.floor(cell / columns), cell % columns, i));
    for (let k = 0; k < classes; k++) {
      out[k * cells + cell] = of['conv_seg.bias'].values[k] + features.reduce((sum, f, i) => sum + f * of['conv_seg.weight'].values[k * inputs + i], 0);
    }
  }
  return out;
}

/** Bilinear resizing of one map by its definition. */
function resized(map, [rows, columns], [height, width], aligned = false) {
  const place = (i, from, to) => (aligned ? (to > 1 ? (i * (from - 1)) / (to - 1) : 0) : Math.max(0, ((i + 0.5) * from) / to - 0.5));
  return Float64Array.from({ length: height * width }, (_, at) => {
    const [y, x] = [place(Math.floor(at / width), rows, height), place(at % width, columns, width)];
    let sum = 0;
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) sum += map[r * columns + c] * Math.max(0, 1 - Math.abs(y - r)) * Math.max(0, 1 - Math.abs(x - c));
    }
    // Beyond the last cell there is the last cell.
    const [wy, wx] = [[y, rows], [x, columns]].map(([p, n]) => Array.from({ length: n }, (_, i) => Math.max(0, 1 - Math.abs(p - i))).reduce((a, b) => a + b));
    return sum / (wy * wx);
  });
}

/** Tests as run.mjs runs them, on a folder of fixtures. */
export function segmenting(golden) {
  const tests = [];
  const test = (name, run) => tests.push({ name: `package: ${name}`, run });

  test('segmentation heads say what plain loops say, on grids of all sizes', () => {
    for (const [dim, channels, classes, rows, columns] of [
      [7, 5, 4, 1, 1], [8, 6, 2, 1, 9], [5, 4, 3, 6, 1], [6, 9, 5, 4, 4], [9, 3, 21, 5, 7], [3, 10, 4, 9, 13], [16, 8, 7, 11, 2],
    ]) {
      const patches = filled(`${rows}x${columns}`, rows * columns * dim, 2);
      for (const [kind, tensors] of [['linear', linearHead(dim, classes)], ['conv', convHead(dim, channels, classes)]]) {
        const head = read(tensors);
        same('shape', [head.kind, head.dim, head.classes], [kind, dim, classes]);
        const expected = naive(tensors, patches, rows, columns);
        const largest = expected.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
        assertClose(`${kind}, ${rows} × ${columns}`, head.logits(patches, rows, columns), expected, { atol: 3e-6 * (1 + largest) });
        const best = Array.from({ length: rows * columns }, (_, i) => {
          const of = Array.from({ length: classes }, (_, k) => expected[k * rows * columns + i]);
          return of.indexOf(Math.max(...of));
        });
        same(`${kind}: classes of the patches`, [...head.segment(patches, rows, columns)], best);
      }
    }
  });

  for (const name of fixtures(golden, 'fcn_step')) {
    test(`convolutions and both resizes match the reference (${name})`, () => {
      const { json: { config, tolerance }, tensors } = fixture(golden, name);
      const [[rows, columns], network, picture] = [config.maps_h_w, config.label_h_w, config.original_h_w];
      const { in: inputs, channels, num_convs: convs, concat_input: concat } = config.decode_head;
      const init = (part) => tensors[`init.decode_head.${part}`].values;
      /** A convolution with its normalisation folded in, as the reader does it. */
      const module = (part, dim) => {
        const [w, b, m, v] = ['weight', 'bias', 'running_mean', 'running_var'].map((n) => init(`${part}.bn.${n}`));
        const factor = Array.from(w, (g, i) => g / Math.sqrt(v[i] + 1e-5));
        const folded = init(`${part}.conv.weight`).map((t, at) => t * factor[Math.floor(at / (9 * dim))]);
        return new Convolution(folded, Float32Array.from(b, (x, i) => x - m[i] * factor[i]), dim);
      };
      const cells = rows * columns;
      const images = tensors.stage4.shape[0];
      for (let n = 0; n < images; n++) {
        // The fixture's maps are [channels, cells], tokens are [cells, channels].
        const map = Float32Array.from({ length: cells * inputs }, (_, at) => tensors.stage4.values[(n * inputs + (at % inputs)) * cells + Math.floor(at / inputs)]);
        let y = map;
        for (let i = 0; i < convs; i++) y = module(`convs.${i}`, i ? channels : inputs).apply(y, rows, columns);
        if (concat) {
          const both = inputs + channels;
          const joined = Float32Array.from({ length: cells * both }, (_, at) => {
            const [cell, c] = [Math.floor(at / both), at % both];
            return c < inputs ? map[cell * inputs + c] : y[cell * channels + c - inputs];
          });
          y = module('conv_cat', both).apply(joined, rows, columns);
        }
        const head = new PatchHead({ dim: channels, weight: init('conv_seg.weight'), bias: init('conv_seg.bias') });
        const classes = config.classes;
        const expected = tensors['test.logits'].values.subarray(n * classes * cells, (n + 1) * classes * cells);
        assertClose('test.logits', head.logits(y, rows, columns), expected, tolerance.logits);
        const along = (axis, count) => taps({ cells: count, network: network[axis], picture: picture[axis] }, false);
        const found = likeliest(expected, rows, columns, along(0, rows), along(1, columns));
        const area = picture[0] * picture[1];
        const other = [...found].filter((label, i) => label !== tensors['test.pred'].values[n * area + i] && !tensors['test.ambiguous'].values[n * area + i]);
        same('test.pred', [found.length, other.length], [area, 0]);
      }
    });
  }

  test('logits are resized as known by hand, and as by definition', () => {
    // One row of two cells, 0 and 4, against a level between them: where the first class is above it.
    const row = (width, level, aligned) => {
      const logits = Float32Array.of(level, level, 0, 4);
      return [...likeliest(logits, 1, 2, taps({ cells: 1, network: 1, picture: 1 }, aligned), taps({ cells: 2, network: width, picture: width }, aligned))].join('');
    };
    // 0, 1, 3, 4 with pixels as areas; 0, 1, 2, 3, 4 with corners in one place.
    same('areas', [row(4, 0.9, false), row(4, 1.1, false), row(4, 3.1, false), row(4, 4.1, false)], ['0111', '0011', '0001', '0000']);
    same('corners', [row(5, 1.9, true), row(5, 2.1, true), row(5, 2, true)], ['00111', '00011', '00011']);
    same('one pixel', [row(1, 1.9, false), row(1, 2.1, false), row(1, 0.1, true)], ['1', '0', '0']);
    const weights = taps({ cells: 3, network: 24, shown: 20, picture: 33 }, false);
    for (let i = 0; i < 33; i++) assertClose('weights', [weights.weight.subarray(4 * i, 4 * i + 4).reduce((a, b) => a + b)], [1], { atol: 1e-6 });
    for (const aligned of [false, true]) {
      for (const [cells, network, shown, picture] of [[[2, 3], [16, 24], [16, 24], [16, 24]], [[3, 5], [24, 40], [22, 37], [31, 18]], [[1, 4], [8, 32], [5, 30], [3, 61]]]) {
        const classes = 4;
        const logits = filled(`maps ${cells}`, classes * cells[0] * cells[1]);
        const areas = Array.from({ length: classes }, (_, k) => {
          const map = resized(logits.subarray(k * cells[0] * cells[1], (k + 1) * cells[0] * cells[1]), cells, network, aligned);
          // What was added at the right and below is cut off before the second resize.
          const cut = Float64Array.from({ length: shown[0] * shown[1] }, (_, i) => map[Math.floor(i / shown[1]) * network[1] + (i % shown[1])]);
          return resized(cut, shown, picture, aligned);
        });
        const along = (axis) => taps({ cells: cells[axis], network: network[axis], shown: shown[axis], picture: picture[axis] }, aligned);
        const found = likeliest(logits, cells[0], cells[1], along(0), along(1));
        const apart = [...found].filter((label, i) => areas[label][i] < Math.max(...areas.map((a) => a[i])) - 1e-5);
        same(`${cells} to ${picture}, ${aligned}`, [found.length, apart.length], [picture[0] * picture[1], 0]);
      }
    }
  });

  test('pictures are fitted and padded as the native program does it', () => {
    same('sizes', [fittedSize(375, 500, [2048, 512]), fittedSize(500, 375, [2048, 512]), fittedSize(100, 1000, [2048, 512]), fittedSize(3, 4000, [100, 100]), fittedSize(7, 9)],
      [[512, 683], [683, 512], [205, 2048], [1, 100], [7, 9]]);
    const image = (width, height, of) => ({ width, height, data: Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) => of(i % 4, (i >> 2) % width, Math.floor(i / 4 / width))) });
    const plain = { patch: 4, mean: [0, 0, 0], std: [1 / 255, 1 / 255, 1 / 255] };
    // As they are: nothing is resized, and 3 × 5 pixels become 4 × 8.
    const kept = fitted(image(5, 3, (c, x, y) => (c === 3 ? 255 : 60 * c + 10 * x + y)), plain);
    same('sizes', [kept.shown, kept.size, kept.values.length], [[3, 5], [4, 8], 3 * 32]);
    const at = (c, y, x) => Math.round(kept.values[(c * 4 + y) * 8 + x]);
    same('pixels', [at(0, 0, 0), at(1, 2, 4), at(2, 1, 3), at(2, 2, 5), at(0, 3, 0)], [0, 102, 151, 0, 0]);
    // Halved: outputs see four inputs with 1, 3, 3, 1 of 8 parts, fewer at the ends. 0 0 0 0 255 255 255 255 becomes 0 32 223 255.
    const step = fitted(image(8, 1, (c, x) => (c === 3 || x > 3 ? 255 : 0)), { ...plain, patch: 1, scale: [4, 4] });
    same('halved', [step.size, [...step.values.subarray(0, 4)].map(Math.round)], [[1, 4], [0, 32, 223, 255]]);
    // See-through pixels are white, and each channel has its normalisation.
    const clear = fitted(image(4, 4, (c) => (c === 3 ? 0 : 7)), { patch: 4, mean: [0.5, 0.25, 0], std: [0.5, 0.25, 2] });
    assertClose('white', [0, 16, 32].map((i) => clear.values[i]), [1, 3, 0.5], { atol: 1e-6 });
  });

  test('a segmenter of the native program is read', () => {
    const config = 'align_corners = true\narch = "vit-6x2x1/8"\nblocks = 1\n\n[eval]\nmax_pictures = 0\nscale_px = [640, 320]\nwindow_px = 0\n\n[views]\nscale_px = [2048, 512]\n';
    const said = { task: 'segmentation', classes: '["sky","Straße"]', palette: '[[1,2,3],[200,0,255]]', mean: '[0.5,0.4,0.3]', std: '[0.2,0.2,0.1]', config, accuracy: 'mIoU 71.00 % of 8 held-out pictures' };
    const beside = ['backbone.patch_embed.proj.weight', [6, 3, 1, 1], filled('patch', 18)];
    const head = read([...linearHead(6, 2), beside], said);
    same('file', [head.names, head.palette, head.hasBackbone, head.scale, head.aligned, head.statistics, head.metadata.accuracy],
      [['sky', 'Straße'], [[1, 2, 3], [200, 0, 255]], true, [640, 320], true, { mean: [0.5, 0.4, 0.3], std: [0.2, 0.2, 0.1] }, said.accuracy]);
    head.check({ dim: 6, arch: 'vit-6x2x1/8' });
    refused('width', () => head.check({ dim: 4, arch: 'vit-s/16' }), 'argument', /takes 6 numbers of a patch; vit-s\/16 gives 4: it is of another network/);
    refused('blocks', () => head.check({ dim: 3 }), 'argument', /last 2 blocks/);
    refused('patches', () => head.logits(new Float32Array(11), 1, 2), 'argument', /1 × 2 patches of 6 numbers, found 11/);
    refused('none', () => head.logits(new Float32Array(0), 0, 2), 'argument', /found 0/);
    refused('no number', () => head.logits(new Float32Array(6).fill(NaN), 1, 1), 'weights', /finite/);
    refused('size', () => head.fitting(0), 'argument', /1 to 4096 whole pixels, found 0/);
    same('fitting', [head.fitting(), head.fitting(224)], [[640, 320], [224, 224]]);
    same('present', head.present(Uint8Array.of(1, 1, 0, 1)).map((c) => [c.index, c.name, c.colour, c.share]), [[1, 'Straße', [200, 0, 255], 0.75], [0, 'sky', [1, 2, 3], 0.25]]);
    // A head alone: PASCAL's colours, numbers for names, the published scale.
    const bare = read(linearHead(6, 21), { classes: '["a"]', palette: '[[1,2]]' });
    same('bare', [bare.names, bare.hasBackbone, bare.scale, bare.aligned, bare.statistics], [undefined, false, [2048, 512], false, undefined]);
    same('colours', [0, 1, 2, 3, 8, 15, 20].map((k) => bare.palette[k]), [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [64, 0, 0], [192, 128, 128], [0, 64, 128]]);
    same('a number for a name', bare.present(Uint8Array.of(20))[0].name, 'class 20');
    const pictures = (scale) => read(linearHead(6, 2), { config: `[eval]\nscale_px = ${scale}\n` }).scale;
    same('as they are', [pictures('[0, 0]'), pictures('[99999, 512]'), pictures('"x"')], [undefined, [4096, 512], [2048, 512]]);
  });

  test('heads of other layouts and damaged ones are refused in words', () => {
    const linear = linearHead(6, 3);
    const conv = convHead(6, 4, 3);
    const without = (tensors, name) => tensors.filter(([n]) => n !== `decode_head.${name}`);
    const shaped = (tensors, name, shape, values) => [...without(tensors, name), [`decode_head.${name}`, shape, values ?? new Float32Array(shape.reduce((a, b) => a * b, 1))]];
    const one = (name, shape) => [name, shape, new Float32Array(shape.reduce((a, b) => a * b, 1))];
    const cases = {
      backbone: [[one('backbone.cls_token', [1, 1, 6])], {}, /found none: `ocelli finetune segmentation` writes one/],
      detection: [linear, { task: 'detection' }, /fine-tuned for segmentation, found one for detection/],
      resnet: [[...conv, one('backbone.conv1.weight', [4, 3, 7, 7])], {}, /found one on a ResNet.*`ocelli segment` runs it/],
      fcn: [[...conv, one('decode_head.convs.1.conv.weight', [4, 4, 3, 3]), one('decode_head.conv_cat.conv.weight', [4, 10, 3, 3])], {}, /found convs\.1\.conv\.weight, conv_cat\.conv\.weight as well/],
      many: [[...linear, ...[1, 2, 3, 4].map((i) => one(`decode_head.fusion${i}.weight`, [1]))], {}, /fusion1\.weight, fusion2\.weight, fusion3\.weight and 1 more/],
      'no variance': [without(linear, 'bn.running_var'), {}, /decode_head\.bn\.running_var: expected it/],
      'no bias': [without(conv, 'conv_seg.bias'), {}, /decode_head\.conv_seg\.bias: expected it/],
      blocks: [[...linear, one('backbone.patch_embed.proj.weight', [3, 3, 8, 8])], {}, /last 2 blocks side by side, which cannot be had here.*blocks = 1/],
      'of another network': [[...linear, one('backbone.patch_embed.proj.weight', [4, 3, 8, 8])], {}, /takes 6 numbers of a patch; the network beside it gives 4: it is of another/],
      'no width': [[...linear, one('backbone.patch_embed.proj.weight', [0, 3, 8, 8])], {}, /gives 0: it is of another/],
      'one class': [linearHead(6, 1), {}, /2 to 255 classes and channels, found \[1, 6, 1, 1\]/],
      'many classes': [linearHead(6, 256), {}, /2 to 255 classes.*256/],
      'no axes': [shaped(linear, 'conv_seg.weight', []), {}, /2 to 255 classes/],
      'two axes': [shaped(linear, 'conv_seg.weight', [3, 6]), {}, /conv_seg\.weight: expected \[3, 6, 1, 1\], found \[3, 6\]/],
      bias: [shaped(linear, 'conv_seg.bias', [4]), {}, /conv_seg\.bias: expected \[3\], found \[4\]/],
      norm: [shaped(linear, 'bn.bias', [5]), {}, /bn\.bias: expected \[6\], found \[5\]/],
      taps: [shaped(conv, 'convs.0.conv.weight', [4, 6, 1, 1]), {}, /convs\.0\.conv\.weight: expected \[4, 6, 3, 3\], found \[4, 6, 1, 1\]/],
      'no channels': [shaped(conv, 'convs.0.conv.weight', [4, 0, 3, 3]), {}, /a number of channels, found \[4, 0, 3, 3\]/],
      negative: [shaped(conv, 'convs.0.bn.running_var', [4], Float32Array.of(1, 1, -0.5, 1)), {}, /convs\.0\.bn\.running_var: expected numbers from 0 on, found -0\.5/],
      'no number': [shaped(linear, 'bn.weight', [6], new Float32Array(6).fill(NaN)), {}, /bn\.weight: expected finite numbers, found NaN/],
      'too large': [shaped(shaped(linear, 'bn.weight', [6], new Float32Array(6).fill(3e38)), 'conv_seg.weight', [3, 6, 1, 1], new Float32Array(18).fill(3e38)), {}, /beyond all bounds/],
      std: [linear, { mean: '[0,0,0]', std: '[1,0,1]' }, /std: expected three numbers above 0, found \[1,0,1\]/],
    };
    for (const [what, [tensors, metadata, words]] of Object.entries(cases)) refused(what, () => read(tensors, metadata), 'weights', words);
    // Whatever is damaged: a refusal or a head, and no other error.
    for (const tensors of [linearHead(3, 2), convHead(2, 3, 2)]) {
      const whole = bytesOf(tensors, { classes: '["a","b"]', palette: '[[1,2,3],[4,5,6]]', config: '[eval]\nscale_px = [64, 32]\n' });
      for (let at = 0; at < whole.length; at++) {
        for (const flip of [1, 0x80, 0xff]) {
          const bytes = new Uint8Array(whole);
          bytes[at] ^= flip;
          try {
            const head = SegmentationHead.read(bytes);
            head.segment(new Float32Array(head.dim), 1, 1);
          } catch (error) {
            if (!(error instanceof OcelliError)) throw new Error(`byte ${at}: ${error}`);
          }
        }
      }
    }
  });

  test('the largest segmentation head takes less than a third of what plain loops take', () => {
    const [dim, channels, side] = [384, 256, 60];
    const head = new PatchHead({
      dim, conv: { weight: filled('large', channels * dim * 9, 0.02), bias: filled('large bias', channels) },
      weight: filled('large classifier', 21 * channels), bias: filled('large offset', 21),
    });
    const patches = filled('large patches', side * side * dim);
    // Some of the products that plain loops would need, timed in turns with the head: how busy the machine is falls out.
    const part = 30;
    const [a, b] = [filled('one side', dim * 9), filled('the other side', dim * 9)];
    let sum = 0;
    const plain = () => {
      for (let i = 0; i < (side * side * channels) / part; i++) for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
    };
    const timed = (run) => {
      const began = performance.now();
      run();
      return performance.now() - began;
    };
    let [best, loops] = [Infinity, Infinity];
    for (let i = 0; i < 3; i++) {
      best = Math.min(best, timed(() => head.logits(patches, side, side)));
      loops = Math.min(loops, part * timed(plain));
    }
    console.log(`      ${side} × ${side} patches of ${dim}, ${channels} channels: ${best.toFixed(0)} ms, plain loops ${loops.toFixed(0)} ms`);
    if (!(best < loops / 3) || !Number.isFinite(sum)) throw new Error(`${best} ms, plain loops ${loops} ms`);
  });
  return tests;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const golden = process.env.OCELLI_GOLDEN ?? join(dirname(fileURLToPath(import.meta.url)), '../../tests/golden');
  const began = Date.now();
  finish('tests of the package', await runEach(segmenting(golden), process.argv.slice(2)), began);
}
