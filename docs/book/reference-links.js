// Chapters link to the reference pages where they lie in the repository, so that the links work there. The built book has
// these pages in its folder `reference`.
(() => {
    const book = new URL('.', document.currentScript.src);
    for (const link of document.querySelectorAll('main a[href^="../../"]')) {
        const page = link.getAttribute('href').slice('../../'.length);
        link.href = new URL(`reference/${page}`, book).href;
    }
})();
