package protocol

import (
	"context"
	"iter"
	"maps"
	"strconv"
)

// Subscriber is a gas account as 3005 and 3007 answer it. Name, address and
// telephones belong to a person: they never reach a log.
type Subscriber struct {
	SubsCode   string `json:"subsCode" need:"true"`
	Name       string `json:"name"` // masked by the platform
	AddrCode   string `json:"addrCode"`
	AddrDetail string `json:"addrDetail"` // masked by the platform
	SubsType   string `json:"subsType"`   // 1 household, 2 business
	State      string `json:"state"`      // appendix D
	Tel        string `json:"tel"`
	Phone      string `json:"phone"`
	OrgCode    string `json:"orgCode"`
}

// BoundSubscriber is a gas account a member has bound.
type BoundSubscriber struct {
	SubsCode   string `json:"subsCode" need:"true"`
	NickName   string `json:"nickName"`
	OrgCode    string `json:"orgCode"`
	CreateTime string `json:"createTime"` // yyyy-MM-dd HH:mm:ss
}

// SubscriberQuery of 3007; at least one field.
type SubscriberQuery struct {
	SubsCode, Name, AddrCode, FullAddr, Tel, Mobile string
}

// Meter is a meter of a gas account.
type Meter struct {
	MeterCode   string `json:"meterCode" need:"true"`
	ResCode     string `json:"resCode"`
	ResType     string `json:"resType"`  // appendix E
	ResModel    string `json:"resModel"` // appendix F
	Direction   string `json:"direction"`
	State       string `json:"state"`
	Position    string `json:"position"`
	SubsCode    string `json:"subsCode"`
	ManageMode  string `json:"manageMode"`
	FactoryCode string `json:"factoryCode"`
	OrgCode     string `json:"orgCode"`
}

// GasPrice is the answer of 3011. Prices and bounds keep the platform's text.
type GasPrice struct {
	PriceVersion  string      `json:"priceVersion"`
	EffectiveDate string      `json:"effectiveDate"`
	Steps         []PriceStep `json:"stepList" need:"true"`
}

// UsedGas is the answer of 3012: gas used in the present cycle, in m³ as the
// platform writes it.
type UsedGas struct {
	CycleBegin string      `json:"cycleBegin"`
	CycleEnd   string      `json:"cycleEnd"`
	Amount     string      `json:"amount" need:"true"`
	Steps      []PriceStep `json:"stepList"`
}

// Bill is a bill of 3014 or 3015. Readings, volumes and prices keep the
// platform's text.
type Bill struct {
	Code           string `json:"acctshCode" need:"true"`
	FeeType        string `json:"feeType"`
	YearMonth      string `json:"yrMonth"`
	LastReading    string `json:"lastReading"`
	CurrReading    string `json:"currReading"`
	Amount         string `json:"amount"` // m³
	Price          string `json:"price"`
	Charged        Fen    `json:"chrgSum"`
	Paid           Fen    `json:"paidSum"`
	Unpaid         Fen    `json:"unpaidFee"`
	TotalUnpaid    Fen    `json:"totalUnpaidFee"`
	LateFeeDate    string `json:"lateFeeDate"`
	PaidLateFee    Fen    `json:"paidLateFee"`
	UnpaidLateFees Fen    `json:"unpaidLateFee"`
}

// Recharge is a line of the card's history at the platform.
type Recharge struct {
	OrderNo   string `json:"orderNo" need:"true"`
	TransNo   string `json:"termTransNo"`
	DeviceID  string `json:"deviceId"`
	CardNo    string `json:"cardNo"`
	Count     int    `json:"count"`
	Amount    Fen    `json:"amount"`
	GasVolume Volume `json:"gasVolume"`
	PayType   string `json:"payType"`
	PayTime   string `json:"payTime"`
	WriteTime string `json:"writeTime"`
	State     string `json:"state"` // P paid, A authorised, S settled, R given back
}

// DictEntry is one line of the platform's dictionary.
type DictEntry struct {
	Code  string `json:"dictCode" need:"true"`
	Name  string `json:"dictName"`
	State string `json:"state"` // A usable, X not
}

// Subscriber calls 3005. An empty org is this kiosk's own, here and below. All
// calls of this file only read: retry what is ErrTransport.
func (c *Client) Subscriber(ctx context.Context, subs, org string) (Subscriber, error) {
	v, err := c.do(ctx, "3005", map[string]string{"subsCode": subs, "orgCode": or(org, c.OrgCode)}, nil, false)
	if err != nil {
		return Subscriber{}, err
	}
	s, err := object[Subscriber](c, "3005", v)
	if err == nil && s.SubsCode != subs {
		in := newReader(v)
		in.fail("subsCode", "is not what was asked")
		return Subscriber{}, c.closed("3005", in)
	}
	return s, err
}

// BoundSubscribers calls 3006: the gas accounts of a member.
func (c *Client) BoundSubscribers(ctx context.Context, userCode string) ([]BoundSubscriber, error) {
	v, err := c.do(ctx, "3006", map[string]string{"userCode": userCode, "userType": "MEMBER"}, nil, false)
	if err != nil {
		return nil, err
	}
	list, _, err := rows[BoundSubscriber](c, "3006", v)
	return list, err
}

// Subscribers calls 3007 page after page. The sequence ends with the first
// error. An answer that goes on for more than 100 pages is one.
func (c *Client) Subscribers(ctx context.Context, q SubscriberQuery, org string) iter.Seq2[Subscriber, error] {
	return paged[Subscriber](ctx, c, "3007", map[string]string{
		"subsCode": q.SubsCode, "name": q.Name, "addrCode": q.AddrCode, "fullAddr": q.FullAddr, "tel": q.Tel, "mobile": q.Mobile,
		"orgCode": or(org, c.OrgCode),
	})
}

// Meters calls 3009: the meters of a gas account.
func (c *Client) Meters(ctx context.Context, subs, org string) ([]Meter, error) {
	return listed[Meter](ctx, c, "3009", subs, org)
}

// GasPrice calls 3011; an empty meter asks for the account's price.
func (c *Client) GasPrice(ctx context.Context, subs, org, meter string) (GasPrice, error) {
	v, err := c.do(ctx, "3011", map[string]string{"subsCode": subs, "orgCode": or(org, c.OrgCode), "meterCode": meter}, nil, false)
	if err != nil {
		return GasPrice{}, err
	}
	return object[GasPrice](c, "3011", v)
}

// UsedGas calls 3012.
func (c *Client) UsedGas(ctx context.Context, subs, org string) (UsedGas, error) {
	v, err := c.do(ctx, "3012", map[string]string{"subsCode": subs, "orgCode": or(org, c.OrgCode)}, nil, false)
	if err != nil {
		return UsedGas{}, err
	}
	return object[UsedGas](c, "3012", v)
}

// Deposit calls 3013: the money kept for a gas account. Some gateways answer
// yuan: api.endpoints.3013.units says so.
func (c *Client) Deposit(ctx context.Context, subs, org string) (Fen, error) {
	type row struct {
		Balance Fen `json:"balance" need:"true"`
	}
	v, err := c.do(ctx, "3013", map[string]string{"subsCode": subs, "orgCode": or(org, c.OrgCode), "acctResType": "2"}, nil, false)
	if err != nil {
		return 0, err
	}
	list, in, err := rows[row](c, "3013", v)
	if err == nil && len(list) == 0 {
		in.fail("datas", "empty")
		err = c.closed("3013", in)
	}
	if err != nil {
		return 0, err
	}
	return list[0].Balance, nil
}

// UnpaidBills calls 3014.
func (c *Client) UnpaidBills(ctx context.Context, subs, org string) ([]Bill, error) {
	return listed[Bill](ctx, c, "3014", subs, org)
}

// Bills calls 3015 page after page, as Subscribers does.
func (c *Client) Bills(ctx context.Context, subs, org string) iter.Seq2[Bill, error] {
	return paged[Bill](ctx, c, "3015", map[string]string{"subsCode": subs, "orgCode": or(org, c.OrgCode)})
}

// Recharges calls 3016 page after page: what the platform knows to have been
// loaded from day to day (yyyyMMdd, both included). An empty card asks for the
// whole gas account.
func (c *Client) Recharges(ctx context.Context, subs, org, cardNo, from, to string) iter.Seq2[Recharge, error] {
	return paged[Recharge](ctx, c, "3016", map[string]string{
		"subsCode": subs, "orgCode": or(org, c.OrgCode), "cardNo": cardNo, "beginDate": from, "endDate": to,
	})
}

// Dictionary calls 3025 for one of catalogue.DictType.
func (c *Client) Dictionary(ctx context.Context, dictType string) ([]DictEntry, error) {
	v, err := c.do(ctx, "3025", map[string]string{"dictType": dictType, "orgCode": c.OrgCode}, nil, false)
	if err != nil {
		return nil, err
	}
	list, _, err := rows[DictEntry](c, "3025", v)
	return list, err
}

func listed[T any](ctx context.Context, c *Client, code, subs, org string) ([]T, error) {
	v, err := c.do(ctx, code, map[string]string{"subsCode": subs, "orgCode": or(org, c.OrgCode)}, nil, false)
	if err != nil {
		return nil, err
	}
	list, _, err := rows[T](c, code, v)
	return list, err
}

const (
	pageSize = 100
	maxPages = 100
)

// paged asks for one page after the other. How many rows a page has is what
// the answer has, not what was asked for: a platform may take 10 for 100
// without a word, and then counts its pages in tens. It ends when total is
// reached; where no total is told, with a page shorter than the first.
func paged[T any](ctx context.Context, c *Client, code string, params map[string]string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		var got, first int64
		for page := 1; page <= maxPages; page++ {
			ask := map[string]string{"pageIndex": strconv.Itoa(page), "pageSize": strconv.Itoa(pageSize)}
			maps.Copy(ask, params)
			list, total, err := onePage[T](ctx, c, code, ask)
			if err != nil {
				yield(none, err)
				return
			}
			for _, r := range list {
				if !yield(r, nil) {
					return
				}
			}
			n := int64(len(list))
			got += n
			if page == 1 {
				first = n
			}
			if n == 0 || total >= 0 && got >= total || total < 0 && n < first {
				return
			}
		}
		yield(none, &CallError{Interface: code, Reason: "more than " + strconv.Itoa(maxPages) + " pages", class: []error{ErrTransport}})
	}
}

// onePage reads one page; total is -1 when the answer does not tell it.
func onePage[T any](ctx context.Context, c *Client, code string, params map[string]string) (list []T, total int64, err error) {
	v, err := c.do(ctx, code, params, nil, false)
	if err != nil {
		return nil, 0, err
	}
	list, in, err := rows[T](c, code, v)
	if err != nil {
		return nil, 0, err
	}
	total = -1
	if v.member("total") != nil {
		total = in.integer("total", 0, 1<<53, false)
	}
	return list, total, c.closed(code, in)
}
