// A drawing of ECharts in the page's own colours: a string such as --rw-good in its option is that colour, in either
// theme. What it says is drawn on a canvas, never taken for HTML.
import { echarts } from "nicegui-echart";

const coloured = (value, style) =>
  typeof value === "string" && /^--rw-[a-z0-9-]+$/.test(value) ? style.getPropertyValue(value).trim()
    : Array.isArray(value) ? value.map((each) => coloured(each, style))
    : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each, style)]))
    : value;

export default {
  template: `<figure role="img" :aria-label="heading"><div ref="canvas" class="rw-chart-canvas"></div></figure>`,
  props: { heading: String, option: Object },
  async mounted() {
    await new Promise((resolve) => requestAnimationFrame(resolve));
    this.chart = echarts.init(this.$refs.canvas);
    this.sized = new ResizeObserver(() => this.chart.resize());
    this.sized.observe(this.$refs.canvas);
    this.themed = new MutationObserver(() => this.draw());
    this.themed.observe(document.body, { attributeFilter: ["class"] });
    this.draw();
  },
  unmounted() {
    this.sized?.disconnect();
    this.themed?.disconnect();
    this.chart?.dispose();
  },
  watch: { option() { this.draw(); } },
  methods: {
    draw() {
      this.chart?.setOption(coloured({ animation: false, ...this.option }, getComputedStyle(document.body)), true);
      this.$el.dataset.drawn = "1"; // for who waits for it
    },
  },
};
