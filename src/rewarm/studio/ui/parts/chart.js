// A chart of series. It reads its points from the API (at most a few per pixel), again and finer when zoomed, and
// adds those that a live run sends. Text is drawn on a canvas: none of it ever becomes HTML.
import { echarts } from "nicegui-echart";

const ON_LIGHT = ["#c2410c", "#0369a1", "#15803d", "#a16207", "#7e22ce", "#be185d", "#0f766e", "#4d7c0f", "#4338ca", "#57534e"];
const ON_DARK = ["#fb923c", "#38bdf8", "#4ade80", "#facc15", "#c084fc", "#f472b6", "#2dd4bf", "#a3e635", "#818cf8", "#a8a29e"];
const RECENT = 500; // events that the store may not have yet: they are offered again to who joins and who has read
const streams = new Map(); // one for each run, however many charts listen

function open(run, stream) {
  if (document.hidden || stream.ended) return;
  stream.source = new EventSource(`/api/v1/runs/${encodeURIComponent(run)}/stream?after=${stream.after}`);
  stream.source.addEventListener("event", (message) => {
    const event = JSON.parse(message.data);
    stream.after = event.seq;
    if (event.kind !== "metric") return;
    const stands = stream.recent.filter((one) => one.step <= event.step); // those behind it were taken back
    stream.recent = [...stands.slice(1 - RECENT), event];
    stream.listeners.forEach((each) => each(event));
  });
  stream.source.addEventListener("end", () => {
    stream.ended = true;
    stream.source.close();
  });
}

// Tabs that nobody looks at let go of their streams: by HTTP/1 a browser holds six connections to a server, all tabs together.
document.addEventListener("visibilitychange", () => streams.forEach((stream, run) => {
  stream.source?.close();
  open(run, stream);
}));

function listen(run, after, listener) {
  let stream = streams.get(run);
  if (!stream) {
    stream = { after, listeners: new Set(), recent: [] };
    streams.set(run, stream);
    open(run, stream);
  }
  stream.listeners.add(listener);
  stream.recent.forEach(listener);
  return () => {
    stream.listeners.delete(listener);
    if (!stream.listeners.size) {
      stream.source?.close();
      streams.delete(run);
    }
  };
}

function smooth(values, weight) {
  if (!weight) return values;
  let mean = 0;
  let total = 0;
  return values.map((value) => {
    mean = weight * mean + (1 - weight) * value; // debiased as in Adam
    total = weight * total + (1 - weight);
    return mean / total;
  });
}

const short = (value) =>
  Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(1) : String(+value.toPrecision(4));

export default {
  template: `<figure :aria-label="heading" role="img">
    <figcaption>{{ heading }}<button v-if="zoomed" type="button" @click="reset">{{ words.reset }}</button></figcaption>
    <div ref="canvas" class="rw-chart-canvas"></div>
    <p v-if="note" class="rw-chart-note">{{ note }}</p>
  </figure>`,
  props: {
    heading: String, lines: Array, live: Boolean, after: Number, time: Boolean, log: Boolean, smoothing: Number, words: Object,
  },
  data: () => ({ note: "", zoomed: false }),
  async mounted() {
    await new Promise((resolve) => requestAnimationFrame(resolve));
    this.series = [];
    this.chart = echarts.init(this.$refs.canvas, null, { renderer: "canvas" });
    this.chart.on("datazoom", () => this.zoom());
    this.chart.on("finished", () => { // for who waits for it
      if (!this.readTurn) return;
      const last = Math.max(0, ...this.series.map((series) => series.step.at(-1) ?? 0));
      Object.assign(this.$el.dataset, { drawn: this.readTurn, last });
    });
    this.sized = new ResizeObserver(() => this.chart.resize());
    this.sized.observe(this.$refs.canvas);
    this.themed = new MutationObserver(() => this.draw());
    this.themed.observe(document.body, { attributeFilter: ["class"] });
    await this.read();
    this.follow();
  },
  unmounted() {
    (this.ends || []).forEach((end) => end());
    clearTimeout(this.soon);
    this.sized?.disconnect();
    this.themed?.disconnect();
    this.chart?.dispose();
  },
  watch: {
    log() { this.draw(); },
    smoothing() { this.draw(); },
    lines(now, before) { if (JSON.stringify(now) !== JSON.stringify(before)) { this.read(); this.follow(); } },
    live() { this.follow(); },
  },
  methods: {
    follow() {
      (this.ends || []).forEach((end) => end());
      this.ends = !this.live ? [] : this.lines.filter((line) => line.run).map((line) =>
        listen(line.run, this.after, (event) => this.add(line, event)));
    },
    add(line, event) {
      const series = this.series[this.lines.indexOf(line)];
      const value = event.values?.[line.metric];
      if (!series || value === undefined || value === null || event.step <= (series.step.at(-1) ?? -1)) return;
      series.step.push(event.step);
      for (const key of ["min", "mean", "max"]) series[key].push(value);
      series.added = (series.added || 0) + 1;
      clearTimeout(this.soon);
      const many = series.added > Math.max(50, series.step.length / 10) && !this.zoomed;
      this.soon = setTimeout(() => (many ? this.read() : this.draw()), 100);
    },
    async read(begin, end) {
      const turn = (this.turn = (this.turn || 0) + 1); // an answer that was overtaken is not drawn
      const wide = Math.min(this.$refs.canvas.clientWidth * 0.75, 4000 / this.lines.length); // of lines that lie over each other
      const buckets = Math.min(2000, Math.max(200, Math.round(wide)));
      const range = begin === undefined ? "" : `&begin=${Math.floor(begin)}&end=${Math.ceil(end)}`;
      try {
        const found = await Promise.all(this.lines.map(async (line) => {
          const answer = await fetch(`${line.url}?buckets=${buckets}${range}`);
          if (answer.status === 404) return { step: [], min: [], mean: [], max: [] };
          if (!answer.ok) throw new Error(answer.status);
          return answer.json();
        }));
        if (turn !== this.turn) return;
        this.series = found;
        this.note = found.some((series) => series.step.length) ? "" : this.words.empty;
      } catch {
        this.note = this.words.failed;
        setTimeout(() => this.chart && !this.chart.isDisposed() && this.read(begin, end), 5000);
        return;
      }
      this.readTurn = turn;
      this.draw();
      if (!range) this.lines.forEach((line) => streams.get(line.run)?.recent.forEach((event) => this.add(line, event)));
    },
    zoom() {
      const [from, to] = this.chart.getModel().getComponent("xAxis").axis.scale.getExtent();
      const whole = this.chart.getOption().dataZoom[0];
      this.zoomed = whole.start > 0 || whole.end < 100;
      if (this.whole === undefined) this.whole = [from, to];
      clearTimeout(this.soon);
      this.soon = setTimeout(() => this.read(...(this.zoomed ? [from, to] : [])), 150);
    },
    reset() {
      this.chart.dispatchAction({ type: "dataZoom", start: 0, end: 100 });
    },
    draw() {
      if (!this.chart || this.chart.isDisposed()) return;
      const style = getComputedStyle(document.body);
      const ink = style.getPropertyValue("--rw-ink-2").trim() || "#57534e";
      const rule = style.getPropertyValue("--rw-line").trim() || "#e7e5e4";
      const palette = document.documentElement.dataset.theme === "dark" ? ON_DARK : ON_LIGHT;
      const many = this.lines.length > 1;
      const scale = this.time ? 1000 : 1;
      const series = this.series.flatMap((found, number) => {
        const color = palette[number % palette.length];
        const name = this.lines[number]?.label ?? "";
        const x = found.step.map((step) => step * scale);
        const mean = smooth(found.mean, this.smoothing);
        const line = {
          type: "line", name, color, showSymbol: x.length < 2, symbolSize: 5, lineStyle: { width: 1.75 },
          data: mean.map((value, at) => [x[at], value]), emphasis: { disabled: true }, z: 3,
        };
        const spread = found.max.some((value, at) => value !== found.min[at]);
        const faint = { type: "line", name, color, showSymbol: false, silent: true, tooltip: { show: false }, z: 2 };
        const behind = [];
        if (spread && !this.log) {
          behind.push(
            { ...faint, stack: `band${number}`, lineStyle: { opacity: 0 }, data: found.min.map((value, at) => [x[at], value]) },
            { ...faint, stack: `band${number}`, lineStyle: { opacity: 0 }, areaStyle: { opacity: 0.14 },
              data: found.max.map((value, at) => [x[at], value - found.min[at]]) });
        } else if (this.smoothing) {
          behind.push({ ...faint, lineStyle: { width: 1, opacity: 0.3 }, data: found.mean.map((value, at) => [x[at], value]) });
        }
        return [...behind, line];
      });
      const zoom = this.chart.getOption()?.dataZoom;
      this.chart.setOption({
        animation: false, // the axes too: a live chart would be drawn sixty times for each point
        grid: { left: 8, right: 24, top: many ? 30 : 10, bottom: 8, containLabel: true },
        textStyle: { fontFamily: style.fontFamily },
        legend: many ? { type: "scroll", top: 0, textStyle: { color: ink }, pageTextStyle: { color: ink }, pageIconColor: ink, data: this.lines.map((line) => line.label) } : undefined,
        tooltip: { trigger: "axis", renderMode: "richText", confine: true, valueFormatter: short },
        xAxis: { type: this.time ? "time" : "value", scale: true, axisLabel: { color: ink, hideOverlap: true },
          axisLine: { lineStyle: { color: rule } }, splitLine: { show: false } },
        yAxis: { type: this.log ? "log" : "value", scale: true, axisLabel: { color: ink, formatter: short, hideOverlap: true },
          splitLine: { lineStyle: { color: rule } } },
        dataZoom: zoom ? undefined : [{ type: "inside", filterMode: "none", zoomOnMouseWheel: "shift", moveOnMouseWheel: false }],
        toolbox: zoom ? undefined : { show: true, itemSize: 0, feature: { dataZoom: { yAxisIndex: "none", title: {} } } },
        series,
      }, { replaceMerge: ["series"], lazyUpdate: true });
      if (!zoom) this.chart.dispatchAction({ type: "takeGlobalCursor", key: "dataZoomSelect", dataZoomSelectActive: true });
    },
  },
};
