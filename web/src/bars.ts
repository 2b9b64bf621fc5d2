// A bar for each class.

export interface Bar {
  name: string;
  /** 0 to 1. */
  share: number;
  /** Beside the name, such as the number of neighbours. */
  note?: string;
}

/** Draws bars as items of a list; the longest is marked. Rows that are there are kept: a screen reader stays where it is. */
export function drawBars(list: HTMLElement, bars: readonly Bar[]): void {
  list.hidden = bars.length === 0;
  while (list.childElementCount > bars.length) list.lastElementChild!.remove();
  const most = Math.max(...bars.map((bar) => bar.share));
  bars.forEach(({ name, share, note }, i) => {
    const row = list.children[i] ?? list.appendChild(emptyRow());
    const [label, meter, number] = row.children as unknown as [HTMLElement, HTMLMeterElement, HTMLElement];
    label.textContent = note ? `${name} (${note})` : name;
    meter.value = share;
    meter.setAttribute('aria-label', name);
    number.textContent = `${(100 * share).toFixed(1)} %`;
    row.classList.toggle('best', share === most);
  });
}

function emptyRow(): HTMLLIElement {
  const row = document.createElement('li');
  row.append(document.createElement('span'), document.createElement('meter'), document.createElement('span'));
  return row;
}

/** Writes only what is new: what is written anew is read aloud anew. */
export function write(target: HTMLElement, text: string, isError = false): void {
  if (target.textContent !== text) target.textContent = text;
  target.classList.toggle('error', isError);
}
