// Runs in the worker before the package's own script: counts what it asks WebGPU for.
const counters = { dispatches: 0, submits: 0, pipelines: 0 };
const count = (kind, name, key) => {
  const original = kind?.prototype[name];
  if (!original) return;
  kind.prototype[name] = function (...args) {
    counters[key] += 1;
    return original.apply(this, args);
  };
};
count(self.GPUComputePassEncoder, 'dispatchWorkgroups', 'dispatches');
count(self.GPUQueue, 'submit', 'submits');
for (const name of ['createComputePipeline', 'createComputePipelineAsync']) count(self.GPUDevice, name, 'pipelines');
const channel = new BroadcastChannel('ocelli-bench');
channel.onmessage = ({ data }) => data === '?' && channel.postMessage({ counters });
