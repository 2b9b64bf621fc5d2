// Runs tests one after another and says how each went.

/** Runs those of `tests` (`{ name, run }`) whose names have all `words`; returns how many ran and failed. */
export async function runEach(tests, words) {
  const chosen = tests.filter((t) => words.every((w) => t.name.includes(w)));
  if (chosen.length === 0) throw new Error(`no test's name has ${words.join(' ')}`);
  let failed = 0;
  for (const { name, run } of chosen) {
    const start = Date.now();
    const took = () => `(${((Date.now() - start) / 1000).toFixed(1)} s)`;
    try {
      await run();
      console.log(`ok    ${name} ${took()}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name} ${took()}\n      ${error.message}`);
    }
  }
  return { count: chosen.length, failed };
}
