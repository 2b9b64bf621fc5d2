import { StrictMode, useEffect, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { useAttention, useModel } from './use-model.js';

/** A map of one head, one pixel a patch; CSS makes it larger. */
function Map({ attention, head }) {
  const canvas = useRef(null);
  useEffect(() => {
    const { rows, columns, values } = attention;
    const map = values.subarray(head * rows * columns, (head + 1) * rows * columns);
    const most = Math.max(...map);
    const image = new ImageData(columns, rows);
    map.forEach((share, i) => image.data.set([255 * (share / most), 180 * (share / most), 60, 255], 4 * i));
    canvas.current.getContext('2d').putImageData(image, 0, 0);
  }, [attention, head]);
  const style = { width: '8rem', imageRendering: 'pixelated' };
  return <canvas ref={canvas} width={attention.columns} height={attention.rows} style={style} />;
}

function App() {
  const { model, progress, error } = useModel('./scenes.safetensors');
  const [picture, setPicture] = useState();
  const found = useAttention(model, picture);
  useEffect(() => {
    model?.ocelli.scene(1, 224).then(setPicture, () => undefined);
  }, [model]);
  const wrong = error ?? found.error;
  return (
    <main>
      <h1>What the network looks at</h1>
      <input type="file" accept="image/*" aria-label="A picture" onChange={({ target }) => target.files[0] && setPicture(target.files[0])} />
      {wrong && <p role="alert">{wrong.message}</p>}
      {!model && !wrong && <progress value={progress} />}
      {found.attention && (
        <p>{Array.from({ length: found.attention.heads }, (_, head) => <Map key={head} attention={found.attention} head={head} />)}</p>
      )}
    </main>
  );
}

createRoot(document.getElementById('root')).render(<StrictMode><App /></StrictMode>);
