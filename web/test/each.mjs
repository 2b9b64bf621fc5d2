// Runs tests one after another and says how each went.

/** Runs those of `tests` (`{ name, run }`) whose names have all `words`; returns how many ran, and the names of those that failed. */
export async function runEach(tests, words) {
  const chosen = tests.filter((t) => words.every((w) => t.name.includes(w)));
  if (chosen.length === 0) throw new Error(`no test's name has ${words.join(' ')}`);
  const failed = [];
  for (const { name, run } of chosen) {
    const start = Date.now();
    const took = () => `(${((Date.now() - start) / 1000).toFixed(1)} s)`;
    try {
      await run();
      console.log(`ok    ${name} ${took()}`);
    } catch (error) {
      failed.push(name);
      console.log(`FAIL  ${name} ${took()}\n      ${error.message}`);
    }
  }
  return { count: chosen.length, failed };
}

/** Says how many ran since `began`, names those that failed once more (a long output hides them), and ends with their exit code. */
export function finish(what, { count, failed }, began) {
  console.log(`${count} ${what}, ${failed.length} failed, ${((Date.now() - began) / 1000).toFixed(0)} s`);
  for (const name of failed) console.log(`failed: ${name}`);
  process.exit(failed.length === 0 ? 0 : 1);
}
