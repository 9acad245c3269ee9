// Masks: run lengths of a box of pixels, read column by column, as colours for a canvas.

/**
 * The mask of `bytes[start..stop)`: alternating lengths of background and foreground down the columns of a
 * box of `width` x `height` pixels, each length in groups of 7 bits, lowest first, the high bit saying that
 * another follows. Returns a Uint8Array of 0 and 1, row by row.
 */
export function decodeRuns(bytes, start, stop, width, height) {
  const mask = new Uint8Array(width * height);
  let at = 0;
  let value = 0;
  for (let i = start; i < stop; value ^= 1) {
    let length = 0;
    let shift = 0;
    let byte;
    do {
      byte = bytes[i++];
      length += (byte & 127) * 2 ** shift;
      shift += 7;
    } while (byte & 128);
    const end = Math.min(at + length, mask.length);
    if (value) {
      let x = Math.floor(at / height);
      let y = at % height;
      for (let k = at; k < end; k++) {
        mask[y * width + x] = 1;
        if (++y === height) {
          y = 0;
          x++;
        }
      }
    }
    at = end;
  }
  return mask;
}

/** RGBA of a mask: the colour, faint inside and opaque along the edge. `rgb` is three numbers 0 to 255. */
export function tint(mask, width, height, rgb, inside = 100) {
  const pixels = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (!mask[i]) continue;
      const edge =
        x === 0 || y === 0 || x === width - 1 || y === height - 1 ||
        !mask[i - 1] || !mask[i + 1] || !mask[i - width] || !mask[i + width];
      pixels.set(rgb, 4 * i);
      pixels[4 * i + 3] = edge ? 255 : inside;
    }
  }
  return pixels;
}

/** "#rrggbb" as three numbers. */
export function rgbOf(color) {
  const value = parseInt(color.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
