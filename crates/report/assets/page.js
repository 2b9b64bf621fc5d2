'use strict';
// Values under the pointer, times in the reader's time zone, and a new look while the run goes on.
const tip = document.getElementById('tip');
const show = v => v === 0 ? '0' : Math.abs(v) >= 1e6 || Math.abs(v) < 1e-3 ? v.toExponential(2) : String(+v.toPrecision(5));
let last = 0;
for (const svg of document.querySelectorAll('svg[data-plot]')) {
  const plot = JSON.parse(svg.dataset.plot);
  const hair = document.createElementNS(svg.namespaceURI, 'path');
  hair.setAttribute('class', 'hair');
  svg.append(hair);
  const hide = () => { tip.hidden = true; hair.removeAttribute('d'); };
  svg.addEventListener('pointerleave', hide);
  svg.addEventListener('pointercancel', hide);
  for (const kind of ['pointermove', 'pointerdown']) svg.addEventListener(kind, e => {
    last = Date.now();
    const box = svg.getBoundingClientRect();
    const at = ((e.clientX - box.left) / box.width * 420 - plot.x[0]) / plot.x[1];
    let best = null;
    const found = [];
    for (const [name, , xs, ys] of plot.c) {
      let low = 0, high = xs.length - 1;
      while (low < high) {
        const mid = low + high >> 1;
        if (xs[mid] < at) low = mid + 1; else high = mid;
      }
      if (low > 0 && at - xs[low - 1] < xs[low] - at) low--;
      if (ys[low] === null || ys[low] === undefined) continue;
      found.push([name, xs[low], ys[low]]);
      if (best === null || Math.abs(xs[low] - at) < Math.abs(best - at)) best = xs[low];
    }
    if (best === null) return hide();
    const x = plot.x[0] + best * plot.x[1];
    hair.setAttribute('d', 'M' + x + ' 12V196');
    const lines = found.map(([name, , y]) => show(y) + plot.u + '  ' + name);
    tip.textContent = show(+best.toFixed(2)) + ' ' + plot.t + '\n' + lines.join('\n');
    tip.hidden = false;
    const left = Math.min(e.clientX + 14, innerWidth - tip.offsetWidth - 6);
    tip.style.left = Math.max(6, left) + 'px';
    tip.style.top = Math.max(6, e.clientY - tip.offsetHeight - 12) + 'px';
  });
}
for (const time of document.querySelectorAll('time[data-unix]')) {
  const date = new Date(time.dataset.unix * 1000);
  const two = n => String(n).padStart(2, '0');
  time.textContent = date.getFullYear() + '-' + two(date.getMonth() + 1) + '-' + two(date.getDate()) + ' ' + two(date.getHours()) + ':' + two(date.getMinutes());
  time.title = date.toString();
}
const badge = document.querySelector('.badge[data-news]');
if (badge) {
  const look = () => {
    const silent = Date.now() / 1000 - badge.dataset.news;
    if (silent <= badge.dataset.patience) return;
    badge.textContent = 'no news for ' + Math.round(silent / 60) + ' min';
    badge.className = 'badge warn';
  };
  look();
  setInterval(look, 5000);
}
const refresh = document.querySelector('meta[name=refresh]');
if (refresh) setInterval(() => {
  // Not while somebody reads values, nor where nobody looks.
  if (!document.hidden && Date.now() - last > 5000) location.reload();
}, refresh.content * 1000);
for (const table of document.querySelectorAll('table.sorts')) {
  const titles = [...table.querySelectorAll('thead tr:last-child th')];
  const body = table.tBodies[0];
  titles.forEach((title, column) => title.querySelector('button').addEventListener('click', () => {
    // Numbers from the largest down first, names from A on; what has no value comes last either way.
    const before = title.getAttribute('aria-sort');
    const falls = before === 'none' ? title.classList.contains('number') : before === 'ascending';
    titles.forEach(other => other.setAttribute('aria-sort', 'none'));
    title.setAttribute('aria-sort', falls ? 'descending' : 'ascending');
    const value = row => {
      const cell = row.cells[column];
      if (cell.dataset.v !== undefined) return +cell.dataset.v;
      return cell.textContent === '–' ? null : cell.textContent;
    };
    const compare = (a, b) => typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'en', {numeric: true});
    body.append(...[...body.rows].sort((one, two) => {
      const a = value(one), b = value(two);
      if (a === null || b === null) return (a === null) - (b === null);
      return falls ? compare(b, a) : compare(a, b);
    }));
  }));
}
