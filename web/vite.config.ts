import { defineConfig } from 'vite';

export default defineConfig({
  // Works wherever it is put: a folder of a static host, `ocelli serve`.
  base: './',
  worker: { format: 'es' },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: ['index.html', 'test.html'] },
  },
});
