// The package as an adapter of the browser bench (its adapters/template.js says what is timed). It wants the folder web/ocelli,
// built, under /ocelli, and this one under /impl:
//   --mount /ocelli=web/ocelli --mount /impl=web/bench
//   {"name":"ocelli-webgpu","adapter":"/impl/adapter.js","opts":{"device":"webgpu"}}
let ocelli, model, heads;

// The bench counts on the page what the package does in a worker: count there, and ask.
const counted = new BroadcastChannel('ocelli-bench');
const Plain = self.Worker;
self.Worker = class extends Plain {
  constructor(url, options) {
    const text = `import '${location.origin}/impl/count.js'; import '${new URL(url, location.href)}';`;
    super(URL.createObjectURL(new Blob([text], { type: 'text/javascript' })), options);
  }
};
const counters = () => new Promise((done) => {
  counted.onmessage = ({ data }) => data.counters && done(data.counters);
  counted.postMessage('?');
});

let runs = 0;
let first;

export default {
  modelUrl: () => '/models/vit.safetensors',
  async init({ device }) {
    const { Ocelli } = await import('/ocelli/dist/index.js');
    ocelli = await Ocelli.open(device);
  },
  async create(bytes) {
    model = await ocelli.load(bytes);
    heads = model.info.heads;
  },
  async run(x, [batch, , height, width]) {
    const view = await model.lookAt(x, batch, height, width);
    const cls = await view.embed();
    view.dispose();
    runs += 1;
    first ??= await counters();
    return { cls };
  },
  dispose: () => ocelli.dispose(),
  async info() {
    const now = await counters();
    const per = (key) => (now[key] - first[key]) / Math.max(1, runs - 1);
    return {
      device: ocelli.device, heads, dispatches_per_run: per('dispatches'), submits_per_run: per('submits'), pipelines: now.pipelines,
      module_memory_bytes: await ocelli.memory(),
    };
  },
};
