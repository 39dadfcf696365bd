package mirror

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/protocol/vcctest"
)

// TestTheDictionaryRefreshesTheAppendices: the platform's words win over the
// catalogue's, come once a day, and survive a restart and a platform that has
// none any more.
func TestTheDictionaryRefreshesTheAppendices(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refuse := false
		w := newWorld(t, vcctest.Options{Hook: func(c vcctest.Call) vcctest.Action {
			if c.Code == "3025" && refuse {
				return vcctest.Action{Code: "20040"}
			}
			return vcctest.Action{}
		}})
		if err := w.platform.AddRows("3025",
			vcctest.Row{"dictType": "addrType", "dictCode": "B", "dictName": "楼宇", "state": "A"},
			vcctest.Row{"dictType": "resType", "dictCode": "01", "dictName": "膜式表"},
			vcctest.Row{"dictType": "resType", "dictCode": "09", "dictName": "停产表", "state": "X"},
			vcctest.Row{"dictType": "resModel", "dictCode": "77", "dictName": strings.Repeat("长", maxWord+1)},
		); err != nil {
			t.Fatal(err)
		}
		w.start()
		if got := w.m.Word("C", "B"); got != "楼栋" {
			t.Errorf("before the first pull: %q", got)
		}
		w.pass(20 * time.Minute)
		for code, want := range map[string]string{"CB": "楼宇", "CP": "省（直辖市）", "E01": "膜式表", "E09": "", "F77": "", "DA": "正常", "D?": ""} {
			if got := w.m.Word(code[:1], code[1:]); got != want {
				t.Errorf("%s: %q, want %q", code, got, want)
			}
		}
		if n := w.platform.Calls()["3025"]; n != len(appendices) {
			t.Errorf("asked %d times, want %d", n, len(appendices))
		}
		w.pass(10 * time.Hour)
		if n := w.platform.Calls()["3025"]; n != len(appendices) {
			t.Errorf("asked %d times in one day", n)
		}
		refuse = true
		w.stop()
		w.start()
		w.pass(16 * time.Hour)
		if n := w.platform.Calls()["3025"]; n != 2*len(appendices) {
			t.Errorf("asked %d times in two days, want %d", n, 2*len(appendices))
		}
		if got := w.m.Word("E", "01"); got != "膜式表" {
			t.Errorf("after the platform refused: %q", got)
		}
		if got := (*Mirror)(nil).Word("C", "P"); got != "省（直辖市）" {
			t.Errorf("without a mirror: %q", got)
		}
	})
}
