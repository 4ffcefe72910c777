"""How long the report's map takes to draw in a browser: on its canvas, and by plain WebGL.

``python tools/bench_report_map.py [--points 20000] [--browser /usr/bin/chromium]`` prints the
median milliseconds of a frame, read back so that it is done. Without a graphics driver the browser
does both on the processor. Needs playwright.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from vnp.report.page import page

_FRAMES = 40

# Called with [number of points, frames]; the canvas is the one of the page.
_MEASURE = """async ([n, frames]) => {
  const random = d3.randomLcg(0.1), normal = d3.randomNormal.source(random)(0, 1);
  const map = { x: d3.range(n).map(normal), y: d3.range(n).map(normal) };
  const stage = document.createElement("div");
  stage.style.width = "1040px";
  document.body.append(stage);
  const nothing = () => {};
  const points = vnp.pointCanvas(map, { hovered: nothing, chosen: nothing, fenced: nothing });
  stage.append(points.canvas);
  points.paint(d3.range(8).map((at) => vnp.themed(`--s${at}`)), (at) => at % 8);
  const median = (times) => d3.median(times).toFixed(1);
  points.resize();
  const canvas = [];
  for (let frame = 0; frame < frames; frame++) {
    const begin = performance.now();
    points.draw();
    points.canvas.getContext("2d").getImageData(0, 0, 1, 1);
    canvas.push(performance.now() - begin);
  }
  const begin = performance.now();
  d3.quadtree(d3.range(n), (at) => map.x[at], (at) => map.y[at]);
  const tree = performance.now() - begin;
  const other = document.createElement("canvas");
  [other.width, other.height] = points.size();
  const gl = other.getContext("webgl", { preserveDrawingBuffer: true });
  if (!gl) return { canvas: median(canvas), quadtree: tree.toFixed(1), webgl: null };
  const shader = (kind, text) => {
    const made = gl.createShader(kind);
    gl.shaderSource(made, text);
    gl.compileShader(made);
    return made;
  };
  const program = gl.createProgram();
  gl.attachShader(program, shader(gl.VERTEX_SHADER,
    "attribute vec2 p; void main() { gl_Position = vec4(p / 4.0, 0, 1); gl_PointSize = 4.2; }"));
  gl.attachShader(program, shader(gl.FRAGMENT_SHADER,
    `precision mediump float;
     void main() {
       if (length(gl_PointCoord - 0.5) > 0.5) discard;
       gl_FragColor = vec4(0, .4, .7, .8);
     }`));
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  const data = new Float32Array(2 * n);
  map.x.forEach((x, at) => data.set([x, map.y[at]], 2 * at));
  gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(0);
  gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
  gl.enable(gl.BLEND);
  const drawn = [], pixel = new Uint8Array(4);
  for (let frame = 0; frame < frames; frame++) {
    const start = performance.now();
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.drawArrays(gl.POINTS, 0, n);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
    drawn.push(performance.now() - start);
  }
  return { canvas: median(canvas), quadtree: tree.toFixed(1), webgl: median(drawn) };
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder) / "empty.html"
        path.write_text(page("empty", start="/* nothing */"))
        arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=given.browser, args=arguments)
        tab = browser.new_page()
        tab.goto(path.as_uri())
        found = tab.evaluate(_MEASURE, [given.points, _FRAMES])
        browser.close()
    print(json.dumps({"points": given.points, **{f"{k}_ms": v for k, v in found.items()}}))


if __name__ == "__main__":
    main()
