import { LabIcon } from "@jupyterlab/ui-components";

/** A falling training curve and a rising dashed one, as the card draws them. */
const svgstr = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="forge-icon" fill="none" stroke="var(--jp-inverse-layout-color3, #616161)" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">
    <path d="M4 4v16h16"/>
    <path d="M7.500 7c1.200 6 3.600 8.200 11.500 8.800"/>
    <path d="M8 17c5 0 6.500-10.500 11.500-10.500" stroke-dasharray="2.500 3"/>
  </g>
</svg>`;

export const forgeIcon = new LabIcon({ name: "forge-notebook:icon", svgstr });
