// What a reader would trip over on the open page: text too faint, text that is cut off, words that
// are torn apart, and a page wider than its window.
(() => {
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);

  function over(front, back) {
    const alpha = front[3] ?? 1;
    return [0, 1, 2].map((i) => alpha * front[i] + (1 - alpha) * back[i]);
  }

  function background(element) {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      layers.push(colour);
      if ((colour[3] ?? 1) === 1) break;
    }
    return layers.reduceRight((back, front) => over(front, back), [255, 255, 255]);
  }

  function luminance(colour) {
    const [r, g, b] = colour.map((value) => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  function contrast(element) {
    const back = background(element);
    const front = over(numbers(getComputedStyle(element).color), back);
    const [dark, light] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  }

  function faint() {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      const text = walker.currentNode.textContent.trim();
      if (!text || element.closest("svg, script, style, noscript, :disabled")) continue;
      if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
      const ratio = contrast(element);
      if (ratio < 4.5) found.push(`${text.slice(0, 40)} (${element.className}): ${ratio.toFixed(2)}`);
    }
    return found;
  }

  // Text beyond the window's right edge that no block of its own lets the reader scroll to.
  function cutOff() {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      const text = walker.currentNode.textContent.trim();
      if (!text || element.closest("svg, script, style, noscript, .visually-hidden")) continue;
      if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
      const range = document.createRange();
      range.selectNodeContents(walker.currentNode);
      const right = Math.max(...[...range.getClientRects()].map((box) => box.right));
      if (right <= innerWidth + 1) continue;
      let at = element;
      if (element.closest("nav")) continue;  // the trail above a page is shortened by three dots
      while (at && !["auto", "scroll"].includes(getComputedStyle(at).overflowX)) at = at.parentElement;
      // A block of code or a table may scroll; what holds the heading too is the page.
      if (!at || at.querySelector("h1")) found.push(text.slice(0, 40));
    }
    return found;
  }

  // Words of a table, outside code, that a narrow column tears apart.
  function torn() {
    const found = [];
    for (const cell of document.querySelectorAll("td, th")) {
      const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        if (walker.currentNode.parentElement.closest("code")) continue;
        for (const word of walker.currentNode.textContent.matchAll(/[A-Za-z]{2,14}/g)) {
          const range = document.createRange();
          range.setStart(walker.currentNode, word.index);
          range.setEnd(walker.currentNode, word.index + word[0].length);
          if (range.getClientRects().length > 1) found.push(word[0]);
        }
      }
    }
    return found;
  }

  const told = { wide: document.documentElement.scrollWidth - innerWidth, cut: cutOff().slice(0, 5), torn: torn().slice(0, 5), faint: {} };
  for (const theme of ["light", "dark"]) {
    document.documentElement.dataset.theme = theme;
    told.faint[theme] = faint().slice(0, 5);
  }
  return told;
})();
