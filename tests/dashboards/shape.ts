// What the dashboards are held to: Grafana's own types, panel by panel, so that an option that does not
// exist, or has a value that it does not take, is an error. A constant for each dashboard comes behind this.

import type { Dashboard, FieldConfig, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** As it stands in a file: the values of an enum are plain strings there. */
type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

/** A panel with the options and the field settings of its kind, and no others. */
type PanelOf<Kind, Options, Custom> = Omit<Panel, 'type' | 'options' | 'fieldConfig'> & {
  type: Kind;
  title: string;
  description: string;
  options: Partial<Options>;
  fieldConfig: Omit<FieldConfigSource, 'defaults'> & {
    defaults: Omit<FieldConfig, 'custom'> & { unit: string; custom?: Custom };
  };
};

type Query = {
  refId: string;
  datasource: { type: 'prometheus'; uid: '${datasource}' };
  editorMode: 'code';
  expr: string;
  legendFormat: string;
  range: boolean;
  instant?: boolean;
  format?: 'table' | 'heatmap' | 'time_series';
};

type AnyPanel = (
  | PanelOf<'stat', stat.Options, never>
  | PanelOf<'table', table.Options, table.FieldConfig>
  | PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>
  | PanelOf<'heatmap', heatmap.Options, heatmap.FieldConfig>
) & { targets: Query[] };

/** What annotations from Prometheus say beside what all annotations do. */
type FromPrometheus = { expr: string; titleFormat: string; textFormat: string };

export type Board = Json<
  Omit<Dashboard, 'panels' | 'annotations'> & {
    panels: Array<RowPanel | AnyPanel>;
    annotations: { list: Array<Dashboard['annotations'] extends { list?: Array<infer A> } | undefined ? A & FromPrometheus : never> };
  }
>;
