package vcctest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"vcckiosk/protocol/catalogue"
)

// Row is a row of a table the platform answers queries from, by field.
type Row = map[string]any

// sources says whose rows an interface answers, where it is not its own.
var sources = map[string]string{"3005": "3007", "3014": "3015", "5005": "5004"}

// AddRows adds rows to the table of an interface: 3006 to 3009, 3011 to 3013,
// 3015 to 3018, 3020 to 3025, 5004. A query answers the rows whose fields
// equal those it names; name and fullAddr match parts. 3005 answers from 3007,
// 3014 the unpaid of 3015, 5005 from 5004.
func (p *Platform) AddRows(code string, rows ...Row) error {
	i, known := catalogue.Find(code)
	if !known || i.Method == catalogue.Push || sources[code] != "" {
		return fmt.Errorf("add rows: interface %s has no table", code)
	}
	defer p.open()()
	for _, r := range rows {
		p.tables[code] = append(p.tables[code], maps.Clone(r))
	}
	return nil
}

// Samples adds a row of examples to every table.
func (p *Platform) Samples() error {
	var errs []error
	for _, i := range catalogue.All() {
		if i.Read && sources[i.Code] == "" && i.Method != catalogue.Push && slices.Contains([]catalogue.Shape{catalogue.Object, catalogue.List, catalogue.Array}, i.Shape) {
			row := catalogue.Row(i.Answer)
			for _, f := range i.Request { // so that a query by examples finds it
				if _, has := row[f.Name]; !has && f.Type != catalogue.Integer {
					row[f.Name] = catalogue.Example(f)
				}
			}
			errs = append(errs, p.AddRows(i.Code, row))
		}
	}
	return errors.Join(errs...)
}

// table answers an interface that has no code of its own here: its fields are
// checked by the catalogue, a reading one answers rows, another one a number.
func (p *Platform) table(q *request) (any, *refusal) {
	i, known := catalogue.Find(q.code)
	if !known || !slices.Contains([]catalogue.Shape{catalogue.Object, catalogue.List, catalogue.Array}, i.Shape) || i.Method == catalogue.Multipart {
		return nil, refuse(codeAPI, "interface unknown")
	}
	asked, r := fields(i, q)
	if r != nil {
		return nil, r
	}
	if !i.Read {
		return p.done(i, asked), nil
	}
	from := q.code
	if s := sources[from]; s != "" {
		from = s
	}
	var found []Row
	for _, row := range p.tables[from] {
		if matches(row, asked) && (q.code != "3014" || fmt.Sprint(row["unpaidFee"]) != "0") {
			found = append(found, only(row, i.Answer))
		}
	}
	switch i.Shape {
	case catalogue.Array:
		return append([]Row{}, found...), nil
	case catalogue.List:
		return page(found, asked), nil
	}
	if len(found) == 0 {
		return nil, refuse("20040", "nothing found")
	}
	return found[0], nil
}

// fields reads and checks a request's fields.
func fields(i catalogue.Interface, q *request) (map[string]string, *refusal) {
	asked := map[string]string{}
	if i.Method == catalogue.Post {
		var in map[string]json.RawMessage
		if json.Unmarshal(q.body, &in) != nil {
			return nil, refuse(codeParameter, "body: not an object")
		}
		for k, v := range in {
			var s string
			if json.Unmarshal(v, &s) != nil {
				s = string(v)
			}
			asked[k] = s
		}
	} else {
		asked = flat(q.query)
	}
	for _, f := range i.Request {
		v := asked[f.Name]
		switch {
		case strings.Contains(f.Name, "."):
		case v == "" && f.Required:
			return nil, refuse(codeParameter, f.Name+": missing")
		case f.Type == catalogue.Integer && v != "":
			if _, err := strconv.Atoi(v); err != nil {
				return nil, refuse(codeParameter, f.Name+": not a number")
			}
		case f.Len > 0 && f.Type != catalogue.Strings && len([]rune(v)) > f.Len:
			return nil, refuse(codeParameter, f.Name+": too long")
		}
	}
	return asked, nil
}

func flat(q url.Values) map[string]string {
	out := map[string]string{}
	for k := range q {
		if k != "seq" && k != "token" && k != "sign" {
			out[k] = q.Get(k)
		}
	}
	return out
}

func matches(row Row, asked map[string]string) bool {
	for k, v := range asked {
		has, known := row[k]
		switch {
		case k == "subsCodes": // a list: of 3018
			if !strings.Contains(v, `"`+fmt.Sprint(row["subsCode"])+`"`) {
				return false
			}
		case !known || v == "":
		case k == "name" || k == "fullAddr":
			if !strings.Contains(fmt.Sprint(has), v) {
				return false
			}
		case fmt.Sprint(has) != v:
			return false
		}
	}
	return true
}

// only leaves what the interface answers. A row may have more, to be found by.
func only(row Row, answer []catalogue.Field) Row {
	out := Row{}
	for _, f := range answer {
		for _, n := range append([]string{f.Name}, f.Aliases...) {
			if v, has := row[n]; has {
				out[n] = v
			}
		}
	}
	return out
}

// page cuts a page out. A size outside 1 to 100 silently becomes 10, a page
// below 1 the first: so the platform team's own code does.
func page(found []Row, asked map[string]string) any {
	index, _ := strconv.Atoi(asked["pageIndex"])
	size, _ := strconv.Atoi(asked["pageSize"])
	if _, paged := asked["pageSize"]; !paged {
		size = 100
	}
	if size < 1 || size > 100 {
		size = 10
	}
	index = max(index, 1)
	from := min((index-1)*size, len(found))
	return Row{
		"pageIndex": index, "pageSize": size, "total": len(found),
		"datas": append([]Row{}, found[from:min(from+size, len(found))]...),
	}
}

// done carries out what changes something: it is kept, and answered with the
// number of what was done. 5001 makes a work order that 5004 and 5005 know.
func (p *Platform) done(i catalogue.Interface, asked map[string]string) any {
	p.deeds++
	no := fmt.Sprintf("B%09d", p.deeds)
	if i.Code == "5001" {
		row := Row{"sheetNo": no, "state": "01", "createTime": p.b.stamp()}
		for k, v := range asked {
			row[k] = v
		}
		p.tables["5004"] = append(p.tables["5004"], row)
	}
	if sheet := asked["sheetNo"]; sheet != "" {
		for _, row := range p.tables["5004"] {
			if row["sheetNo"] == sheet && asked["state"] != "" {
				row["state"] = asked["state"]
			}
		}
		no = sheet
	}
	if len(i.Answer) == 0 {
		return Row{}
	}
	return Row{i.Answer[0].Name: no}
}

// recharges is 3016: what the books say was loaded, or can be.
func (p *Platform) recharges(q *request) (any, *refusal) {
	i, _ := catalogue.Find("3016")
	asked, r := fields(i, q)
	if r != nil {
		return nil, r
	}
	var found []Row
	for _, o := range p.orders() {
		c := p.b.cards[o.CardNo]
		day := o.PayTime.In(zone).Format("20060102")
		if c.SubsCode != asked["subsCode"] || asked["cardNo"] != "" && asked["cardNo"] != o.CardNo || day < asked["beginDate"] || day > asked["endDate"] {
			continue
		}
		row := Row{
			"orderNo": o.OrderNo, "cardNo": o.CardNo, "amount": o.Amount, "gasVolume": o.Volume, "payTime": o.PayTime.In(zone).Format("20060102150405"),
			"state": map[string]string{StatePaid: "P", StateAuthorised: "A", StateSettled: "S", StateReturned: "R"}[o.State],
		}
		if o.Holder != "" {
			row["termTransNo"] = o.Holder
		}
		found = append(found, row)
	}
	return page(found, asked), nil
}
