package vcctest

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// DayAnswer is the platform's half of the daily reconciliation: what it has for
// a kiosk and a day (yyyyMMdd), as the file QR_….txt and its sum. A number
// belongs to the day its newest report says it was written on, or else to the
// day it was authorised. What was given back before it was seen has no order and
// stands in no file.
func (p *Platform) DayAnswer(deviceID, orgCode, day string) (file, sum []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var rows []*trans
	for _, t := range p.b.trans {
		at := cmp.Or(t.written, t.at.In(zone).Format("20060102150405"))
		if t.device == deviceID && !t.fence && !t.forgotten && strings.HasPrefix(at, day) {
			rows = append(rows, t)
		}
	}
	slices.SortFunc(rows, func(a, b *trans) int { return cmp.Compare(a.no, b.no) })
	var b strings.Builder
	b.WriteString("终端流水号|订单号|设备编号|组织机构编码|气户户号|卡号|购气次数|金额(分)|气量|写卡结果|写卡时间|冲正标志|上报状态\n")
	var amount, volume int64
	for _, t := range rows {
		subs, result, reversed, count := "", "", "N", t.count
		if c := p.b.cards[t.cardNo]; c != nil {
			subs = c.SubsCode
		}
		if t.result >= 0 {
			result = fmt.Sprint(t.result)
		}
		if t.state == TransReturned {
			reversed = "Y"
		}
		if t.kind == KindLoad {
			count = int(t.load.Seq)
		}
		fmt.Fprintf(&b, "%s|%s|%s|%s|%s|%s|%d|%d|%d|%s|%s|%s|%s\n", t.no, t.orderNo, t.device, orgCode, subs, t.cardNo,
			count, t.amount, t.volume, result, t.written, reversed, t.letter())
		amount += t.amount
		volume += t.volume
	}
	file = []byte(b.String())
	return file, fmt.Appendf(nil, "%d|%d|%d|%x\n", len(rows), amount, volume, sha256.Sum256(file))
}
