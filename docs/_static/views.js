// A view in a frame says how high it is, and the frame follows. Frames that were ready before this are asked.
addEventListener("message", (event) => {
  const height = event.data && event.data.tinyphiHeight;
  if (!(height > 0)) return;
  for (const frame of document.querySelectorAll("iframe.tinyphi-frame"))
    if (frame.contentWindow === event.source) frame.style.height = `${Math.min(height + 4, 4000)}px`;
});
addEventListener("load", () => {
  for (const frame of document.querySelectorAll("iframe.tinyphi-frame"))
    frame.contentWindow.postMessage("tinyphi: how high?", "*");
});
