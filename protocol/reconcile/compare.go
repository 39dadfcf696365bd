package reconcile

import (
	"cmp"
	"slices"
)

// Case is one way in which the books can differ, as a person reads it. Code is
// the class of clause 3.6: 4005 amount, 4006 count, 4007 both, 4008 no matching
// record, 4009 kiosk yes and company no, 4010 company yes and kiosk no, 4011
// another day.
type Case struct {
	Name  string `json:"case"`
	Code  string `json:"code"`
	Alarm bool   `json:"alarm"` // a person has to do something
	ZH    string `json:"zh"`
	EN    string `json:"en"`
	// What to do next.
	NextZH string `json:"nextZh"`
	NextEN string `json:"nextEn"`
}

// Cases has every case once.
var Cases = []Case{
	{"amount", "4005", true, "金额或气量不一致", "amount or gas differs", "以卡内记录为准，请平台核对订单", "compare with the card's record, then have the platform check the order"},
	{"count", "4006", true, "购气次数不一致", "count differs", "请平台核对该卡的购气次数", "have the platform check the card's count"},
	{"amountAndCount", "4007", true, "金额和购气次数均不一致", "amount and count differ", "以卡内记录为准，请平台核对订单", "compare with the card's record, then have the platform check the order"},
	{"identity", "4008", true, "流水号相同，订单或卡号不同", "same number, other order or card", "停止处理该订单，保留双方记录交技术支持", "leave the order alone; keep both sides' records for support"},
	{"unknownNotListed", "4008", true, "结果未明，平台无此记录", "unknown here, not in the platform's file", "请持卡人再次插卡；平台查询该流水号", "have the card put in again; ask the platform for the number"},
	{"openNotHere", "4008", true, "平台有授权，本机无此流水号", "authorised by the platform, no such number here", "保留数据文件交技术支持；请平台查该订单", "keep the files for support; have the platform look at the order"},
	{"writtenNotListed", "4009", true, "本机写卡成功，平台无此记录", "loaded here, not in the platform's file", "凭本机流水和卡内记录请平台补记", "have the platform book it, by the record of kioskctl journal show"},
	{"writtenGivenBack", "4009", true, "本机写卡成功，平台已冲正", "loaded here, given back by the platform", "凭本机流水和卡内记录请平台补记", "have the platform book it, by the record of kioskctl journal show"},
	{"writtenPending", "4009", false, "本机写卡成功，平台未结", "loaded here, not decided by the platform", "无需处理，每日自动查询", "nothing: it is asked for every day"},
	{"reportWaiting", "4009", false, "结果尚未送达平台", "the result has not reached the platform yet", "送达后重新对账", "run the day again once it is delivered"},
	{"unknownGivenBack", "4009", false, "结果未明，平台已冲正", "unknown here, given back by the platform", "请持卡人再次插卡；三十天未出现则结案", "have the card put in again; closed when it is not seen for thirty days"},
	{"notWrittenSettled", "4010", true, "本机未写卡，平台已入账", "not loaded here, booked by the platform", "请平台凭本机流水退回该笔", "have the platform take it back, by the record of kioskctl journal show"},
	{"settledNotHere", "4010", true, "平台已入账，本机无此流水号", "booked by the platform, no such number here", "本机日志可能缺失：保留数据文件交技术支持", "the journal may have lost it: keep the files for support"},
	{"unknownSettled", "4010", false, "结果未明，平台已入账", "unknown here, booked by the platform", "已按平台结果结案", "nothing: it is closed by the platform's word"},
	{"otherDay", "4011", false, "双方记在不同日期", "on another day here", "无需处理，以另一日对账为准", "nothing: the other day's reconciliation has it"},
	{"platformSays", "4008", true, "平台认为不一致，本机未发现差异", "the platform sees a difference, we do not", "向平台询问其结果码的含义", "ask the platform what its class means"},
}

func caseOf(name string) Case {
	for _, c := range Cases {
		if c.Name == name {
			return c
		}
	}
	return Case{Name: name}
}

// Difference is one top-up the two sides do not agree on, with the evidence of
// both.
type Difference struct {
	Case
	TransNo string   `json:"termTransNo"`
	Ours    *Row     `json:"ours,omitempty"`
	Theirs  *Row     `json:"theirs,omitempty"`
	Fields  []string `json:"fields,omitempty"` // that differ
}

// Result is a day's comparison.
type Result struct {
	OnlyOurs   []Difference `json:"onlyOurs"`
	OnlyTheirs []Difference `json:"onlyTheirs"`
	Differ     []Difference `json:"differ"`
	// Agreed have nothing left to do; Pending wait for the platform's decision
	// on both sides alike.
	Agreed  int `json:"agreed"`
	Pending int `json:"pending"`
	// Match are the numbers both sides have with the same content, and how the
	// platform says they stand.
	Match map[string]State `json:"-"`
}

// Alarms counts the differences a person must do something about.
func (res *Result) Alarms() (n int) {
	for _, list := range [][]Difference{res.OnlyOurs, res.OnlyTheirs, res.Differ} {
		for _, d := range list {
			if d.Alarm {
				n++
			}
		}
	}
	return n
}

// Compare holds our rows of a day against the platform's. elsewhere finds a row
// of ours that belongs to another day, or has no outcome yet; it may be nil.
func Compare(day Day, ours, theirs []Row, elsewhere func(transNo string) (Row, bool)) Result {
	res := Result{OnlyOurs: []Difference{}, OnlyTheirs: []Difference{}, Differ: []Difference{}, Match: map[string]State{}}
	have := map[string]*Row{}
	for i := range ours {
		have[ours[i].TransNo] = &ours[i]
	}
	listed := map[string]bool{}
	for i := range theirs {
		t := &theirs[i]
		listed[t.TransNo] = true
		o, here := have[t.TransNo], true
		if o == nil {
			var other Row
			if elsewhere != nil {
				if other, here = elsewhere(t.TransNo); here {
					o = &other
				}
			}
			if o == nil {
				res.onlyTheirs(t)
				continue
			}
			here = false
		}
		res.both(day, o, t, here)
	}
	for i := range ours {
		if !listed[ours[i].TransNo] {
			res.onlyOurs(&ours[i])
		}
	}
	for _, list := range [][]Difference{res.OnlyOurs, res.OnlyTheirs, res.Differ} {
		slices.SortStableFunc(list, func(a, b Difference) int {
			return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.TransNo, b.TransNo))
		})
	}
	return res
}

func (res *Result) onlyTheirs(t *Row) {
	switch t.State {
	case Settled:
		res.OnlyTheirs = append(res.OnlyTheirs, Difference{Case: caseOf("settledNotHere"), TransNo: t.TransNo, Theirs: t})
	case GivenBack:
		res.Agreed++ // nothing was loaded, says either side
	default:
		res.OnlyTheirs = append(res.OnlyTheirs, Difference{Case: caseOf("openNotHere"), TransNo: t.TransNo, Theirs: t})
	}
}

func (res *Result) onlyOurs(o *Row) {
	name := "writtenNotListed"
	switch {
	case result(o) == notWritten: // no load, no row: nobody owes anything
		res.Agreed++
		return
	case o.State == Waiting:
		name = "reportWaiting"
	case result(o) == unknown:
		name = "unknownNotListed"
	}
	res.OnlyOurs = append(res.OnlyOurs, Difference{Case: caseOf(name), TransNo: o.TransNo, Ours: o})
}

// What a result code amounts to.
const (
	written = iota
	notWritten
	unknown
)

func result(r *Row) int {
	switch {
	case r.Result == nil:
		return unknown
	case *r.Result == 0 || *r.Result == 3:
		return written
	case *r.Result == 1:
		return notWritten
	}
	return unknown
}

func (res *Result) both(day Day, o, t *Row, here bool) {
	name, fields := contents(o, t)
	if name == "" {
		res.Match[t.TransNo] = t.State
		name = standing(o, t)
	}
	agreed, pending := name == "", name == "pending"
	if (agreed || pending) && t.Verdict != "" && t.Verdict != "0" && here {
		d := Difference{Case: caseOf("platformSays"), TransNo: t.TransNo, Ours: o, Theirs: t}
		d.Code = t.Verdict
		res.Differ = append(res.Differ, d)
		return
	}
	if agreed && (!here || t.WriteTime != "" && !day.holds(t.WriteTime)) {
		agreed, name, fields = false, "otherDay", []string{"writeTime"}
	}
	switch {
	case agreed:
		res.Agreed++
	case pending:
		res.Pending++
	default:
		res.Differ = append(res.Differ, Difference{Case: caseOf(name), TransNo: t.TransNo, Ours: o, Theirs: t, Fields: fields})
	}
}

// contents compares what both sides must have alike; a cell one side leaves
// empty says nothing.
func contents(o, t *Row) (name string, fields []string) {
	for _, f := range []struct{ name, ours, theirs string }{
		{"orderNo", o.OrderNo, t.OrderNo},
		{"deviceId", o.DeviceID, t.DeviceID},
		{"orgCode", o.OrgCode, t.OrgCode},
		{"subsCode", o.SubsCode, t.SubsCode},
		{"cardNo", o.CardNo, t.CardNo},
	} {
		if f.ours != f.theirs && f.ours != "" && f.theirs != "" {
			fields = append(fields, f.name)
		}
	}
	if len(fields) > 0 {
		return "identity", fields
	}
	if o.Amount != t.Amount {
		fields = append(fields, "amount")
	}
	if o.Volume != t.Volume {
		fields = append(fields, "gasVolume")
	}
	count := o.Count != nil && t.Count != nil && *o.Count != *t.Count
	switch {
	case len(fields) > 0 && count:
		return "amountAndCount", append(fields, "count")
	case len(fields) > 0:
		return "amount", fields
	case count:
		return "count", []string{"count"}
	}
	return "", nil
}

// standing compares what became of the top-up: "" when both sides say the same,
// "pending" when both wait.
func standing(o, t *Row) string {
	switch result(o) {
	case written:
		switch t.State {
		case Settled:
			return ""
		case GivenBack:
			return "writtenGivenBack"
		}
		if o.State == Waiting {
			return "reportWaiting"
		}
		return "writtenPending"
	case notWritten:
		switch t.State {
		case Settled:
			return "notWrittenSettled"
		case GivenBack:
			return ""
		}
		return "pending"
	}
	switch t.State {
	case Settled:
		return "unknownSettled"
	case GivenBack:
		return "unknownGivenBack"
	}
	return "pending"
}
