"""Vietnamese."""

WORDS: dict[str, str] = {
    "nav.overview": "Tổng quan",
    "nav.data": "Kho dữ liệu",
    "nav.pipelines": "Pipeline",
    "nav.runs": "Lần chạy",
    "nav.compare": "So sánh",
    "nav.models": "Kho mô hình",
    "nav.playground": "Thử mô hình",
    "nav.settings": "Cài đặt",
    "nav.menu": "Trình đơn",
    "nav.theme": "Sáng hoặc tối",
    "nav.language": "Ngôn ngữ",
    "nav.sign_out": "Đăng xuất",
    "command.title": "Lệnh tương đương trong terminal",
    "command.copy": "Sao chép",
    "command.copied": "Đã sao chép",
    "error.title": "Không thực hiện được",
    "error.inside": "Rewarm gặp lỗi bên trong; chi tiết có trong nhật ký của máy chủ.",
    "error.signed_out": "Bạn đã đăng xuất. Hãy đăng nhập lại, không có gì bị mất.",
    "error.not_found": "Không có trang này.",
    "button.cancel": "Hủy",
    "button.close": "Đóng",
    "sign_in.title": "Đăng nhập",
    "sign_in.name": "Tên",
    "sign_in.password": "Mật khẩu",
    "sign_in.submit": "Đăng nhập",
    "sign_in.link_text": "Liên kết này đăng nhập cho bạn một lần.",
    "sign_in.link_submit": "Đăng nhập bằng liên kết này",
    "sign_in.why": "Chưa có tài khoản? Người quản lý Studio tạo liên kết: rewarm studio link NAME",
    "sign_in.failed": "Studio không trả lời. Máy chủ còn chạy không?",
    "state.queued": "đang chờ",
    "state.running": "đang chạy",
    "state.paused": "tạm dừng",
    "state.stopping": "đang dừng",
    "state.stopped": "đã dừng",
    "state.succeeded": "thành công",
    "state.failed": "thất bại",
    "state.lost": "bị mất",
    "chart.smoothing": "Làm mượt",
    "chart.log": "Thang logarit",
    "chart.reset": "Toàn bộ",
    "chart.empty": "Chưa có điểm nào.",
    "chart.failed": "Không đọc được các điểm; sẽ thử lại.",
    # overview
    # runs and one run
    # compare
    # data hub
    # pipelines
    # create pipeline
    # model hub
    # playground
    # settings
}
