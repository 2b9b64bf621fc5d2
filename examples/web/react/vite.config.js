import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  // React's own way to write elements, without a plugin.
  oxc: { jsx: { runtime: 'automatic' } },
});
