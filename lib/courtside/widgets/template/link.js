// Words between a widget and its kernel: questions with answers, and news.

/** The bytes of a message's buffer, moved to where typed arrays may begin. */
export function bytesIn(buffer) {
  const view = buffer instanceof DataView ? buffer : new DataView(buffer.buffer ?? buffer);
  return new Uint8Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/**
 * A widget's link to its kernel. `ask` resolves to {content, bytes} of the answer, or rejects with the
 * sentence that the kernel has against it; `onnews(content, bytes)` is called for what nobody asked for,
 * `onwait(waiting)` when the kernel takes long, and when it answers again.
 */
export class Link {
  constructor(model) {
    this.model = model;
    this.name = Math.random().toString(36).slice(2);
    this.asked = new Map();
    this.last = 0;
    this.onnews = () => {};
    this.onwait = () => {};
    this.hear = (content, buffers) => this.#hear(content, buffers);
    model.on("msg:custom", this.hear);
  }

  ask(content) {
    const re = `${this.name}-${++this.last}`;
    const patience = setTimeout(() => this.onwait(true), 2000);
    return new Promise((resolve, reject) => {
      this.asked.set(re, { resolve, reject, patience });
      this.model.send({ ...content, re });
    });
  }

  close() {
    this.model.off("msg:custom", this.hear);
    for (const { patience } of this.asked.values()) clearTimeout(patience);
  }

  #hear(content, buffers) {
    const bytes = buffers?.length ? bytesIn(buffers[0]) : null;
    const question = this.asked.get(content.re);
    if (!question) {
      if (!content.re) this.onnews(content, bytes);
      return;
    }
    this.asked.delete(content.re);
    clearTimeout(question.patience);
    this.onwait(false);
    if (content.error) question.reject(new Error(content.error));
    else question.resolve({ content, bytes });
  }
}

/** While a widget lives, the picture of its last state that lies beside it is not shown. */
export function hideLastState(view) {
  const style = document.createElement("style");
  style.textContent = `.courtside-last-${view} { display: none; }`;
  document.head.append(style);
  return () => style.remove();
}
