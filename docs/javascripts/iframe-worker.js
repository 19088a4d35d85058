// Search from disk. Browsers start no worker for a page of file://, so what would be one (the
// theme's search) runs in a hidden frame. The theme looks for `IFrameWorker` by this name.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inner = frame.contentWindow;
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inner.document.createElement("script");
      script.src = new URL(address, location).href;
      const loaded = new Promise((resolve) => { script.onload = resolve; });
      inner.document.body.append(script);
      // Of the frame's own kind, or its listeners would not be called by some browsers.
      this.postMessage = (data) =>
        loaded.then(() => inner.dispatchEvent(new inner.MessageEvent("message", { data })));
    }
  };
  window.Worker = window.IFrameWorker;
}
