// A network as React wants it: loaded when a component appears, given back when it goes.
import { load } from 'ocelli';
import { useEffect, useState } from 'react';

/** `{ model, progress, error }`; the same for every picture, anew for another address. */
export function useModel(url) {
  const [state, setState] = useState({});
  useEffect(() => {
    const stop = new AbortController();
    const { signal } = stop;
    setState({ progress: 0 });
    const loading = load(url, {
      signal,
      onProgress: ({ loaded, total }) => setState({ progress: total ? loaded / total : undefined }),
    });
    loading.then((model) => !signal.aborted && setState({ model }), (error) => !signal.aborted && setState({ error }));
    // In development React does this twice: the first load ends here, and gives everything back.
    return () => {
      stop.abort();
      loading.then((model) => model.dispose(), () => undefined);
    };
  }, [url]);
  return state;
}

/** What the class token attends to in a picture, `{ attention, error }`; a look that nobody waits for any more ends. */
export function useAttention(model, picture) {
  const [state, setState] = useState({});
  useEffect(() => {
    if (!model || !picture) return undefined;
    const stop = new AbortController();
    model.attention(picture, { size: 224, signal: stop.signal }).then(
      (attention) => setState({ attention }),
      (error) => !stop.signal.aborted && setState({ error }),
    );
    return () => stop.abort();
  }, [model, picture]);
  return state;
}
