package agent

// The lines a customer reads. Codes are stable; texts may be improved.
var (
	noteStarting     = &Note{"starting", "正在启动，请稍候", "Starting, please wait"}
	noteNoReader     = &Note{"noReader", "读卡器故障，暂停服务", "Card reader not available"}
	noteNeedsKey     = &Note{"needsKey", "设备尚未授权，暂停服务", "This kiosk has not been authorised yet"}
	noteDisabled     = &Note{"disabled", "本机暂停服务，请使用其他设备", "This kiosk is out of service, please use another one"}
	noteUnregistered = &Note{"notRegistered", "设备尚未注册，暂停服务", "This kiosk has not been registered yet"}
	noteOffline      = &Note{"offline", "网络中断，请稍后再试", "No connection to the gas company, please try again later"}
	noteNoDisk       = &Note{"noDisk", "设备存储已满，暂停服务", "Storage is full, out of service"}
	noteBacklog      = &Note{"backlog", "待上报记录过多，暂停服务", "Too many results wait for delivery, out of service"}
	noteClock        = &Note{"clock", "设备时钟异常，暂停服务", "The clock is wrong, out of service"}
	noteUnreadable   = &Note{"unreadable", "无法读卡，请取出后重新插入", "Card cannot be read, please take it out and put it in again"}
	noteForeign      = &Note{"foreign", "不是本公司的燃气卡", "This is not a card of this gas company"}
	noteSwapped      = &Note{"swapped", "卡片已更换，请重新插卡", "The card was changed, please start again"}
	noteUnfinished   = &Note{"unfinished", "上次充值结果尚在核实，请取卡", "Your last top-up is still being checked, please take your card"}
	noteNoOrders     = &Note{"noOrders", "没有待提取的订单，请取卡", "There is no paid order for this card, please take it"}
	noteHoldsGas     = &Note{"holdsGas", "卡内气量尚未输入燃气表，请先插表再来充值", "The card still holds gas: insert it into the meter first"}
	noteDenied       = &Note{"denied", "该卡暂不能充值，请联系客服", "This card cannot be topped up, please call the service line"}
	noteTimeout      = &Note{"timeout", "操作超时，请取卡", "Time is up, please take your card"}
	noteCancelled    = &Note{"cancelled", "已取消，请取卡", "Cancelled, please take your card"}
	noteRefused      = &Note{"refused", "平台未批准本次充值，请取卡", "The gas company did not approve this top-up, please take your card"}
	noteNotWritten   = &Note{"notWritten", "未写入，卡内未变，款项安全，请取卡", "Nothing was written, your money is safe, please take your card"}
	noteWritten      = &Note{"written", "充值成功，请取卡", "Done, please take your card"}
	noteUnknown      = &Note{"unknown", "结果待确认，请将同一张卡再插入本机", "Not certain yet: please put the same card into this kiosk again"}
	noteTakeCard     = &Note{"takeCard", "请取卡", "Please take your card"}
	noteStorage      = &Note{"storage", "设备故障，未写卡，请取卡", "Kiosk fault, nothing was written, please take your card"}
	noteRestored     = &Note{"restored", "上次充值已确认成功", "Your last top-up is confirmed"}
	noteRestoredNone = &Note{"restoredNone", "上次充值未写入，款项安全", "Your last top-up was not written, your money is safe"}
)

// denyNotes are the words for field denyCode of 3010. The codes are ours: the
// platform's document has none. Unknown codes get noteDenied.
var denyNotes = map[string]*Note{
	"LOST":    {"denied.lost", "该卡已挂失，请到营业厅办理", "This card is reported lost, please visit the service hall"},
	"BLOCKED": {"denied.blocked", "该卡已停用，请到营业厅办理", "This card is blocked, please visit the service hall"},
	"ARREARS": {"denied.arrears", "账户有欠费，请先缴清", "There are unpaid bills, please pay them first"},
	"METER":   {"denied.meter", "上次购气尚未输入燃气表，请先插表", "The meter has not taken the last purchase, insert the card there first"},
	"COMPANY": {"denied.company", "该卡属于其他公司", "This card belongs to another company"},
	"LIMIT":   {"denied.limit", "已达到购气限额", "The purchase limit is reached"},
}
