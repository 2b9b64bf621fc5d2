// The module and the device it computes on, in the worker.

import { lengthOf, seldom } from './download.js';
import { OcelliError, wordsOf } from './error.js';
import { addressOf, moduleOf, type Engine, type Module } from './module.js';
import type { DeviceInfo, FileProgress, Opening } from './protocol.js';

/** A device that is open. */
export interface Opened {
  module: Module;
  engine: Engine;
  memory: WebAssembly.Memory;
  info: DeviceInfo;
}

interface OpenCalls {
  signal: AbortSignal;
  onProgress(progress: FileProgress): void;
  /** Called when the device is lost. */
  onLost(why: string): void;
}

/** The module's bytes on their way, counted. The server's own answer goes on where it can: browsers keep compiled code beside it. */
function counted(response: Response, url: string, tell: (progress: FileProgress, must?: boolean) => void): Response {
  const copy = response.clone().body;
  const total = lengthOf(response);
  const count = async (body: ReadableStream<Uint8Array>) => {
    let loaded = 0;
    const reader = body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      loaded += part.value.length;
      tell({ kind: 'module', url, loaded, total: Math.max(total, total && loaded), cached: false });
    }
    tell({ kind: 'module', url, loaded, total: loaded, cached: false }, true);
  };
  // What goes wrong on the way is told by who needs the bytes.
  if (copy) count(copy).catch(() => undefined);
  return response;
}

async function start({ module, wasmUrl, progress }: Opening, { signal, onProgress }: OpenCalls): Promise<WebAssembly.Memory> {
  const url = wasmUrl ?? addressOf(module);
  try {
    const response = await fetch(url, { signal });
    if (!response.ok) throw new OcelliError('network', `the server answers ${response.status} ${response.statusText}`);
    return (await moduleOf(module).default({ module_or_path: progress ? counted(response, url, seldom(onProgress)) : response })).memory;
  } catch (error) {
    signal.throwIfAborted();
    const moved = wasmUrl ? '' : `; where a bundler has moved it, name its address as ${module === 'look' ? 'wasmUrl' : 'trainWasmUrl'}`;
    throw new OcelliError('network', `the module ${url} cannot be loaded: ${wordsOf(error)}${moved}`);
  }
}

/** Starts the module and opens the device that is asked for. */
export async function openDevice(opening: Opening, calls: OpenCalls): Promise<Opened> {
  const { device, kernels } = opening;
  const memory = await start(opening, calls);
  const module = moduleOf(opening.module);
  module.chooseKernels(kernels);
  const onCpu = async (reason: string): Promise<Opened> => {
    const info: DeviceInfo = { kind: 'cpu', name: 'CPU (SIMD wasm)', reason, software: false, limits: {} };
    return { module, engine: await module.Engine.open(false, false), memory, info };
  };
  if (device === 'cpu') return onCpu('asked for by name');
  const { adapter, reason } = await findAdapter();
  if (!adapter && device === 'webgpu') throw new OcelliError('device', `WebGPU is not available: ${reason}`);
  if (!adapter) return onCpu(reason);
  const about = adapter.info ?? {};
  const words = [about.vendor, about.architecture, about.description].filter(Boolean).join(' ');
  const software = Boolean(about.isFallbackAdapter) || /swiftshader|llvmpipe|lavapipe|software|warp/i.test(words);
  if (software && device === 'auto') return onCpu('the only adapter is computed on the CPU, and our CPU path is faster than that');
  watchForLoss(adapter, calls);
  const limits: Record<string, number> = {};
  for (const name of ['maxStorageBufferBindingSize', 'maxBufferSize', 'maxComputeWorkgroupStorageSize', 'maxComputeInvocationsPerWorkgroup']) {
    limits[name] = adapter.limits[name];
  }
  const info: DeviceInfo = { kind: 'webgpu', name: words || 'WebGPU', reason: '', software, limits };
  return { module, engine: await module.Engine.open(true, software), memory, info };
}

// WebGPU's types are not in TypeScript's library yet.
type Loose = any;

async function findAdapter(): Promise<{ adapter: Loose; reason: string }> {
  const gpu: Loose = (navigator as Loose).gpu;
  if (!gpu) return { adapter: undefined, reason: 'this browser has no WebGPU' };
  try {
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    return { adapter, reason: adapter ? '' : 'the browser found no adapter' };
  } catch (error) {
    return { adapter: undefined, reason: String(error) };
  }
}

/** Tells when the device the module opens is lost: the module asks for it itself, so its request is watched. */
function watchForLoss(adapter: Loose, { onLost }: OpenCalls): void {
  const kind = Object.getPrototypeOf(adapter);
  const request = kind.requestDevice;
  kind.requestDevice = async function (this: Loose, ...args: unknown[]) {
    const device = await request.apply(this, args);
    device.lost.then((info: { message: string }) => onLost(info.message || 'the graphics device was lost'));
    return device;
  };
}
