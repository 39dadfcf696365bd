package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"vcckiosk/agent/topup"
)

// heading is what the indexes need of a line.
type heading struct {
	Version  int           `json:"v"`
	TransNo  topup.TransNo `json:"termTransNo"`
	Phase    topup.Phase   `json:"phase"`
	OrderNo  string        `json:"orderNo"`
	Awaiting bool          `json:"awaiting"`
	Parked   string        `json:"parked"`
}

func (h heading) settled() bool {
	return Settled(topup.Record{Phase: h.Phase, Awaiting: h.Awaiting, Parked: h.Parked})
}

// readHeading reads the heading of a line in the form the encoder gives it, in
// which the first four fields come in order, and leaves any other line to the
// decoder. A word of a later field may stand in somebody's text too; that only
// costs the decoder's time.
func readHeading(body []byte) (heading, error) {
	rest, ok := bytes.CutPrefix(body, []byte(`{"v":1,"termTransNo":"`))
	no, rest, ok1 := bytes.Cut(rest, []byte(`","phase":"`))
	phase, rest, ok2 := bytes.Cut(rest, []byte(`","kind":"`))
	_, rest, ok3 := bytes.Cut(rest, []byte(`","orderNo":"`))
	order, _, ok4 := bytes.Cut(rest, []byte(`"`))
	h := heading{Version: 1, TransNo: topup.TransNo(no), Phase: topup.Phase(phase), OrderNo: string(order)}
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || bytes.IndexByte(order, '\\') >= 0 || !h.TransNo.Valid() ||
		bytes.Contains(body, []byte(`"awaiting":`)) || bytes.Contains(body, []byte(`"parked":`)) {
		return decodeHeading(body)
	}
	return h, nil
}

func decodeHeading(body []byte) (heading, error) {
	var h heading
	if err := json.Unmarshal(body, &h); err != nil {
		return h, fmt.Errorf("decode record: %w", err)
	}
	if !h.TransNo.Valid() || h.Version != 1 {
		return h, errors.New("decode record: no number or unknown version")
	}
	return h, nil
}
