// One frame on a canvas: the picture, then masks and boxes, then the names.

import { decodeRuns, rgbOf, tint } from "./masks.js";

const DARK = "rgba(12, 16, 22, 0.75)";

/**
 * Draws the part `view` ({x, y, width, height} in pixels of the clip) of a frame over the whole canvas.
 *
 * `shown` says what: `tracks`, `truth`, `masks`, `names` (booleans), `chosen` ({layer, who} or null; all
 * others are then faint), `about` ({layer, who}: of the other labelled people nothing is drawn), `scale`
 * (canvas pixels per CSS pixel). Tracks are solid, labelled people dashed.
 */
export function drawFrame(context, image, clip, frame, view, shown) {
  const { width, height } = context.canvas;
  const across = width / view.width;
  const down = height / view.height;
  const wide = (image.videoWidth || image.width) / clip.width;
  const high = (image.videoHeight || image.height) / clip.height;
  context.fillStyle = "#10141a";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(
    image, view.x * wide, view.y * high, view.width * wide, view.height * high, 0, 0, width, height,
  );
  const place = ([x1, y1, x2, y2]) => [
    (x1 - view.x) * across, (y1 - view.y) * down, (x2 - view.x) * across, (y2 - view.y) * down,
  ];
  const names = [];
  for (const kind of ["truth", "tracks"]) {
    const layer = clip.layers[kind];
    if (!layer || !shown[kind]) continue;
    const [first, stop] = layer.span(frame);
    for (let row = first; row < stop; row++) {
      const { chosen, about } = shown;
      if (about && kind === "truth" && !(about.layer === kind && about.who === layer.who[row])) continue;
      const same = chosen?.layer === kind ? layer.who[row] : layer.partner[row];
      const here = !chosen || chosen.who === same;
      context.globalAlpha = here ? 1 : 0.3;
      const box = place(layer.box(row));
      const asked = kind === "tracks" || layer.partner[row] !== -2;
      const tinted = shown.masks && drawMask(context, clip, layer, row, place, kind === "tracks");
      if (!tinted) drawBox(context, box, layer.colors[layer.who[row]], kind, asked, shown.scale);
      const inside = box[0] < width && box[2] > 0 && box[1] < height && box[3] > 0;
      if (shown.names && here && asked && inside) names.push([kind, layer, row, box]);
    }
  }
  context.globalAlpha = 1;
  const taken = [];
  for (const name of names.reverse()) drawName(context, ...name, shown.scale, taken);
}

/** Which identity a point of the clip is on: the smallest box around it, as {layer, who}, or null. */
export function hit(clip, frame, x, y, shown) {
  let best = null;
  let least = Infinity;
  for (const kind of ["tracks", "truth"]) {
    const layer = clip.layers[kind];
    if (!layer || !shown[kind]) continue;
    const [first, stop] = layer.span(frame);
    for (let row = first; row < stop; row++) {
      const [x1, y1, x2, y2] = layer.box(row);
      const area = (x2 - x1) * (y2 - y1);
      if (x >= x1 && x <= x2 && y >= y1 && y <= y2 && area < least) {
        least = area;
        best = { layer: kind, who: layer.who[row] };
      }
    }
  }
  return best;
}

function drawBox(context, [x1, y1, x2, y2], color, kind, asked, scale) {
  const line = (kind === "tracks" ? 2 : 1.75) * scale;
  context.setLineDash(kind === "tracks" ? [] : asked ? [6 * scale, 4 * scale] : [2 * scale, 4 * scale]);
  context.strokeStyle = DARK;
  context.lineWidth = line + 2 * scale;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.strokeStyle = color;
  context.lineWidth = line;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.setLineDash([]);
}

let stamp = null;

/** Whether the row has a mask, which is then drawn; that of a label is an outline only. */
function drawMask(context, clip, layer, row, place, filled) {
  const { masks } = layer;
  if (!masks || masks.starts[row] === masks.starts[row + 1]) return false;
  const [x, y, width, height] = masks.boxes.subarray(4 * row, 4 * row + 4);
  const mask = decodeRuns(masks.runs, masks.starts[row], masks.starts[row + 1], width, height);
  const pixels = tint(mask, width, height, rgbOf(layer.colors[layer.who[row]]), filled ? 100 : 0);
  stamp ??= document.createElement("canvas");
  Object.assign(stamp, { width, height });
  stamp.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  const across = clip.width / masks.size[0];
  const down = clip.height / masks.size[1];
  const [x1, y1, x2, y2] = place([x * across, y * down, (x + width) * across, (y + height) * down]);
  context.drawImage(stamp, x1, y1, x2 - x1, y2 - y1);
  return true;
}

/**
 * A track's name on its colour above the box; a label's on white below, with what went wrong in words. It
 * moves out of the way of those in `taken`, and joins them.
 */
function drawName(context, kind, layer, row, [x1, y1, x2, y2], scale, taken) {
  const who = layer.who[row];
  const own = kind === "tracks";
  const wrong = layer.partner[row] === -1 ? (own ? " ?" : " missed") : "";
  const text = `${layer.names[who]}${wrong}`;
  context.font = `${own ? 700 : 600} ${12 * scale}px system-ui, sans-serif`;
  const pad = 4 * scale;
  const high = 16 * scale;
  const wide = context.measureText(text).width + 2 * pad;
  const { width, height } = context.canvas;
  const left = Math.min(Math.max((x1 + x2 - wide) / 2, 0), Math.max(0, width - wide));
  const start = own ? y1 - high : y2;
  const beside = ([x, , w]) => x < left + wide && left < x + w;
  const free = (top) => !taken.some((other) => beside(other) && Math.abs(other[1] - top) < high);
  const within = (top) => Math.min(Math.max(top, 0), height - high);
  const tries = [0, 1, -1, 2, -2, 3, -3].map((step) => within(start + step * high));
  const top = tries.find(free) ?? within(start);
  taken.push([left, top, wide]);
  context.fillStyle = own ? layer.colors[who] : "rgba(255, 255, 255, 0.9)";
  context.fillRect(left, top, wide, high);
  context.fillStyle = own ? layer.inks[who] : wrong ? "#a3123a" : "#1d2733";
  context.textBaseline = "middle";
  context.fillText(text, left + pad, top + high / 2 + 0.5 * scale);
}
